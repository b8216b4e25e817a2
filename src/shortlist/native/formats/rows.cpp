#include "formats/rows.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "kernels/kernels.hpp"
#include "pool/threads.hpp"

namespace shortlist {

bool all_finite(const float* values, int64_t n) {
  uint32_t greatest = 0;  // without a branch, so that the compiler makes vectors of it
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits;
    std::memcpy(&bits, values + i, 4);
    greatest = std::max(greatest, bits & 0x7f800000u);
  }
  return greatest != 0x7f800000u;
}

// The same for 16-bit floats whose exponent is at `mask`.
static bool all_finite(const uint16_t* values, int64_t n, int mask) {
  int greatest = 0;
  for (int64_t i = 0; i < n; i++) greatest = std::max(greatest, values[i] & mask);
  return greatest != mask;
}

static bool finite_row(const RowsView& v, int64_t r) {
  constexpr int half = 0x7c00, bfloat = 0x7f80;
  switch (v.format.kind) {
    case Kind::F32:
      return all_finite(reinterpret_cast<const float*>(v.row(r)), v.cols);
    case Kind::F16:
      return all_finite(reinterpret_cast<const uint16_t*>(v.row(r)), v.cols, half);
    case Kind::BF16:
      return all_finite(reinterpret_cast<const uint16_t*>(v.row(r)), v.cols, bfloat);
    default:  // codes are integers, and bytes of scales are numbers
      return all_finite(v.scales(r), v.halves() * (v.format.minimum ? 2 : 1), half);
  }
}

void Rows::check_finite() const {
  if (view.tiled) throw std::invalid_argument("a tiled matrix has no rows to check");
  std::atomic<int64_t> first{view.rows};
  Workers::Scope scope(threads);
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(view.rows);
    for (int64_t r = share.begin; r < share.end; r++)
      if (!finite_row(view, r)) {
        int64_t least = first;
        while (r < least && !first.compare_exchange_weak(least, r)) {
        }
        return;
      }
  });
  if (first < view.rows)
    throw NotFinite((source.empty() ? "the head" : source) + ": row " + std::to_string(first) +
        " of the head holds weights that are not numbers, so the " +
                    "file is damaged: fetch it again, or convert it again");
}

void unpack_row(const RowsView& view, int64_t row, float* out) {
  std::fill_n(out, view.cols, 0.0f);
  kernels().axpy_row(view, row, 1.0f, out);
}

}  // namespace shortlist
