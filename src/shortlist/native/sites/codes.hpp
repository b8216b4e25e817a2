// What an estimate is read from: a few coordinates of every row, the leading ones in 8 bits and the others in 4, with a
// float16 scale per 32 of them.
//
// 8 rows lie side by side, one to a lane, as in the tiles of rows.hpp. A tile is a sequence of groups of 32 coordinates:
//
//   scales, [8] | codes, the slab of rows.hpp: 256 bytes of signed 8-bit codes, or 128 of 4-bit codes, value = scale * (code - 8)
#pragma once
#include <cstddef>
#include <cstdint>

#include "pool/memory.hpp"
#include "formats/rows.hpp"

namespace shortlist {

constexpr int kGroup = 32;

struct CodesView {
  const uint8_t* tiles = nullptr;
  int64_t rows = 0;
  int eights = 0, fours = 0;  // groups in 8 and in 4 bits

  static constexpr size_t kScales = kTileRows * sizeof(uint16_t), kEight = kScales + kTileRows * kGroup,
      kFour = kScales + kTileRows * kGroup / 2;
  int rank() const { return (eights + fours) * kGroup; }
  size_t tile_bytes() const { return static_cast<size_t>(eights) * kEight + static_cast<size_t>(fours) * kFour; }
};

class Codes {
 public:
  // eight [rows, eights, 32] and four [rows, fours, 16], where byte j of a group holds coordinate j in its low half and
  // j + 16 in its high half; scales [rows, eights] and [rows, fours]. Throws std::invalid_argument when there are too many.
  Codes(const int8_t* eight, const uint16_t* eight_scales, const uint8_t* four, const uint16_t* four_scales, int64_t rows, int eights,
      int fours);

  CodesView view;
  size_t bytes() const { return bytes_; }

 private:
  Allocation block_;
  size_t bytes_ = 0;
};

}  // namespace shortlist
