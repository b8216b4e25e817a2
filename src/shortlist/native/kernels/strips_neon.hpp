// 64 columns of eight 8-bit rows in NEON registers, a row to a lane.
#pragma once
#include "kernels/kernels.hpp"
#include "kernels/simd_neon.hpp"

namespace shortlist::neon {

struct StripCodes {
  uint8x16_t upper[8][2], lower[8][2];  // four nibble bytes of each row: rows 0-3, rows 4-7

  // out[j][i] = bytes [at + 4 j, at + 4 j + 4) of rows 4 i to 4 i + 3.
  static SHORTLIST_INLINE void quad(const uint8_t* const* rows, size_t at, uint8x16_t (*out)[2]) {
    for (int i = 0; i < 2; i++) {
      auto part = [&](int r) { return vreinterpretq_u32_u8(vld1q_u8(rows[4 * i + r] + at)); };
      const uint32x4_t a = part(0), b = part(1), c = part(2), d = part(3);
      const uint64x2_t even_ab = vreinterpretq_u64_u32(vtrn1q_u32(a, b)), odd_ab = vreinterpretq_u64_u32(vtrn2q_u32(a, b));
      const uint64x2_t even_cd = vreinterpretq_u64_u32(vtrn1q_u32(c, d)), odd_cd = vreinterpretq_u64_u32(vtrn2q_u32(c, d));
      out[0][i] = vreinterpretq_u8_u64(vtrn1q_u64(even_ab, even_cd)), out[1][i] = vreinterpretq_u8_u64(vtrn1q_u64(odd_ab, odd_cd));
      out[2][i] = vreinterpretq_u8_u64(vtrn2q_u64(even_ab, even_cd)), out[3][i] = vreinterpretq_u8_u64(vtrn2q_u64(odd_ab, odd_cd));
    }
  }

  // Eight float16 of each row as floats.
  static SHORTLIST_INLINE void scales(const uint8_t* const* rows, size_t at, F* out) {
    float values[F::lanes][8], lanes[F::lanes];
    for (int r = 0; r < F::lanes; r++) F::load_f16(reinterpret_cast<const uint16_t*>(rows[r] + at)).store(values[r]);
    for (int i = 0; i < 8; i++) {
      for (int r = 0; r < F::lanes; r++) lanes[r] = values[r][i];
      out[i] = F::load(lanes);
    }
  }

  template <bool whole>
  SHORTLIST_INLINE void load(const uint8_t* const* up, const uint8_t* const* low, size_t at) {
    quad(up, at, upper);
    quad(up, at + 16, upper + 4);
    if constexpr (whole) {
      quad(low, at, lower);
      quad(low, at + 16, lower + 4);
    }
  }

  template <int half>
  static SHORTLIST_INLINE int8x16_t nibbles(uint8x16_t bytes) {
    if constexpr (half) return vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
    return vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
  }

  // out[t] = sum over 32 columns of code * q_t; queries lie `stride` bytes apart.
  template <bool whole, int half, int tokens>
  SHORTLIST_INLINE void sums(const int8_t* q, size_t stride, F* out) const {
    int32x4_t high[tokens][2], low[tokens][2];
    for (int t = 0; t < tokens; t++)
      for (int i = 0; i < 2; i++) high[t][i] = low[t][i] = vdupq_n_s32(0);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++)
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        const int8x16_t above = nibbles<half>(upper[k][i]), below = whole ? nibbles<half>(lower[k][i]) : above;
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++) {
          int32_t four;
          std::memcpy(&four, q + static_cast<size_t>(t) * stride + k * 4, 4);
          const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
          high[t][i] = vdotq_s32(high[t][i], above, x);
          if constexpr (whole) low[t][i] = vdotq_s32(low[t][i], below, x);
        }
      }
    for (int t = 0; t < tokens; t++) {
      auto all = [&](int i) { return vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high[t][i], 4), low[t][i])); };
      out[t] = {all(0), all(1)};
    }
  }
};

}  // namespace shortlist::neon
