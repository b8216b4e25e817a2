// 64 columns of sixteen 8-bit rows in AVX-512 registers, a row to a lane.
#pragma once
#include "kernels/kernels.hpp"
#include "kernels/simd_avx512.hpp"

namespace shortlist::avx512 {

struct StripCodes {
  __m512i upper[8], lower[8];  // four nibble bytes of each row

  // out[j] = bytes [at + 4 j, at + 4 j + 4) of each row.
  static SHORTLIST_INLINE void quad(const uint8_t* const* rows, size_t at, __m512i* out) {
    auto part = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + at)); };
    __m512i a[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      a[i] = _mm512_inserti32x4(_mm512_castsi128_si512(part(i)), part(4 + i), 1);
      a[i] = _mm512_inserti32x4(_mm512_inserti32x4(a[i], part(8 + i), 2), part(12 + i), 3);
    }
    const __m512i low01 = _mm512_unpacklo_epi32(a[0], a[1]), high01 = _mm512_unpackhi_epi32(a[0], a[1]);
    const __m512i low23 = _mm512_unpacklo_epi32(a[2], a[3]), high23 = _mm512_unpackhi_epi32(a[2], a[3]);
    out[0] = _mm512_unpacklo_epi64(low01, low23), out[1] = _mm512_unpackhi_epi64(low01, low23);
    out[2] = _mm512_unpacklo_epi64(high01, high23), out[3] = _mm512_unpackhi_epi64(high01, high23);
  }

  // Eight float16 of each row as floats.
  static SHORTLIST_INLINE void scales(const uint8_t* const* rows, size_t at, F* out) {
    __m512i pairs[4];
    quad(rows, at, pairs);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      out[2 * i] = {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs[i]))};
      out[2 * i + 1] = {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs[i], 16)))};
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

  // The codes of columns 32 half + 4 k and the three after it, those of the lower plane taken for 0 where not `whole`.
  template <bool whole, int half>
  SHORTLIST_INLINE __m512i step(int k) const {
    const __m512i mask = _mm512_set1_epi8(static_cast<char>(0xf0)), high = half ? upper[k] : _mm512_slli_epi16(upper[k], 4);
    if constexpr (!whole) return _mm512_and_si512(high, mask);
    return _mm512_ternarylogic_epi32(high, half ? _mm512_srli_epi16(lower[k], 4) : lower[k], mask, 0xe4);  // mask ? high : low
  }

  // out[t] = sum over 32 columns of code * q_t; queries lie `stride` bytes apart.
  template <bool whole, int half, int tokens>
  SHORTLIST_INLINE void sums(const int8_t* q, size_t stride, F* out) const {
    __m512i total[tokens];
    for (auto& t : total) t = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
      const __m512i codes = step<whole, half>(k);
#pragma GCC unroll 8
      for (int t = 0; t < tokens; t++) {
        int32_t four;
        std::memcpy(&four, q + static_cast<size_t>(t) * stride + k * 4, 4);
        total[t] = _mm512_dpbusd_epi32(total[t], codes, _mm512_set1_epi32(four));
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++) out[t] = {_mm512_cvtepi32_ps(total[t])};
  }
};

}  // namespace shortlist::avx512
