// 64 columns of eight 8-bit rows in plain C++: the readable twin of the vector paths.
#pragma once
#include "kernels/kernels.hpp"
#include "kernels/simd_portable.hpp"

namespace shortlist::portable {

struct StripCodes {
  int codes[F::lanes][kBlock];  // those of the lower plane taken for 0 where it is not read

  // Eight float16 of each row as floats.
  static void scales(const uint8_t* const* rows, size_t at, F* out) {
    for (int r = 0; r < F::lanes; r++)
      for (int i = 0; i < 8; i++) {
        uint16_t half;
        std::memcpy(&half, rows[r] + at + 2 * i, 2);
        out[i].v[r] = half_to_float(half);
      }
  }

  template <bool whole>
  void load(const uint8_t* const* upper, const uint8_t* const* lower, size_t at) {
    auto nibble = [&](const uint8_t* row, int i) { return row[at + static_cast<size_t>(i % 32)] >> (i < 32 ? 0 : 4) & 15; };
    for (int r = 0; r < F::lanes; r++)
      for (int i = 0; i < kBlock; i++) codes[r][i] = nibble(upper[r], i) << 4 | (whole ? nibble(lower[r], i) : 0);
  }

  // out[t] = sum over 32 columns of code * q_t; queries lie `stride` bytes apart.
  template <bool whole, int half, int tokens>
  void sums(const int8_t* q, size_t stride, F* out) const {
    for (int t = 0; t < tokens; t++)
      for (int r = 0; r < F::lanes; r++) {
        int sum = 0;
        for (int i = 0; i < 32; i++) sum += codes[r][half * 32 + i] * q[static_cast<size_t>(t) * stride + static_cast<size_t>(i)];
        out[t].v[r] = static_cast<float>(sum);
      }
  }
};

}  // namespace shortlist::portable
