#include "sites/codes.hpp"

#include <cstring>
#include <stdexcept>

#include "pool/threads.hpp"

namespace shortlist {

Codes::Codes(const int8_t* eight, const uint16_t* eight_scales, const uint8_t* four, const uint16_t* four_scales, int64_t rows, int eights,
    int fours) {
  if (rows < 1 || eights + fours < 1 || eights > kMaxColumns / kGroup || fours > kMaxColumns / kGroup)
    throw std::invalid_argument("codes need at least one row and one group of " + std::to_string(kGroup));
  view.rows = rows;
  view.eights = eights;
  view.fours = fours;
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  bytes_ = static_cast<size_t>(tiles) * view.tile_bytes();
  Arena own(0);
  block_ = own.take(bytes_);
  view.tiles = block_.data;
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(rows, kTileRows);
    for (int64_t r = share.begin; r < share.end; r++) {
      const size_t lane = static_cast<size_t>(r % kTileRows);
      uint8_t* group = block_.data + static_cast<size_t>(r / kTileRows) * view.tile_bytes();
      // A word of each step, 4 coordinates or 4 pairs of them, goes to the row's lane.
      auto put = [&](const void* from, int steps, uint16_t scale) {
        std::memcpy(group + 2 * lane, &scale, 2);
        for (int k = 0; k < steps; k++)
          std::memcpy(group + CodesView::kScales + static_cast<size_t>(k) * 32 + 4 * lane, static_cast<const uint8_t*>(from) + 4 * k, 4);
      };
      for (int g = 0; g < eights; g++, group += CodesView::kEight) put(eight + (r * eights + g) * kGroup, 8, eight_scales[r * eights + g]);
      for (int g = 0; g < fours; g++, group += CodesView::kFour) put(four + (r * fours + g) * kGroup / 2, 4, four_scales[r * fours + g]);
    }
  });
}

}  // namespace shortlist
