// 64 columns of eight 8-bit rows in AVX2 registers, a row to a lane.
#pragma once
#include "kernels/kernels.hpp"
#include "kernels/simd_avx2.hpp"

namespace shortlist::avx2 {

struct StripCodes {
  __m256i upper[8], lower[8];  // four nibble bytes of each row

  // out[j] = bytes [at + 4 j, at + 4 j + 4) of each row.
  static SHORTLIST_INLINE void quad(const uint8_t* const* rows, size_t at, __m256i* out) {
    auto part = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + at)); };
    __m256i a[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) a[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(part(i)), part(4 + i), 1);
    const __m256i low01 = _mm256_unpacklo_epi32(a[0], a[1]), high01 = _mm256_unpackhi_epi32(a[0], a[1]);
    const __m256i low23 = _mm256_unpacklo_epi32(a[2], a[3]), high23 = _mm256_unpackhi_epi32(a[2], a[3]);
    out[0] = _mm256_unpacklo_epi64(low01, low23), out[1] = _mm256_unpackhi_epi64(low01, low23);
    out[2] = _mm256_unpacklo_epi64(high01, high23), out[3] = _mm256_unpackhi_epi64(high01, high23);
  }

  // Eight float16 of each row as floats.
  static SHORTLIST_INLINE void scales(const uint8_t* const* rows, size_t at, F* out) {
    __m256i pairs[4];
    quad(rows, at, pairs);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const __m256i low = _mm256_and_si256(pairs[i], _mm256_set1_epi32(0xffff)), high = _mm256_srli_epi32(pairs[i], 16);
      const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);  // rows in order, low halves first
      out[2 * i] = {_mm256_cvtph_ps(_mm256_castsi256_si128(both))};
      out[2 * i + 1] = {_mm256_cvtph_ps(_mm256_extracti128_si256(both, 1))};
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
  static SHORTLIST_INLINE __m256i nibbles(__m256i bytes) {
    return _mm256_and_si256(half ? _mm256_srli_epi16(bytes, 4) : bytes, _mm256_set1_epi8(15));
  }

  // out[t] = sum over 32 columns of code * q_t; queries lie `stride` bytes apart. The sums of a nibble stay in int16
  // (15 * 127 * 16 = 30480), so the planes are apart until the end; of each, four queries fit the registers.
  template <bool whole, int half, int tokens>
  SHORTLIST_INLINE void sums(const int8_t* q, size_t stride, F* out) const {
    if constexpr (tokens > 4) {
      sums<whole, half, 4>(q, stride, out);
      sums<whole, half, tokens - 4>(q + 4 * stride, stride, out + 4);
    } else {
      __m256i high[tokens], low[tokens];
      for (int t = 0; t < tokens; t++) high[t] = low[t] = _mm256_setzero_si256();
#pragma GCC unroll 8
      for (int k = 0; k < 8; k++) {
        const __m256i above = nibbles<half>(upper[k]), below = whole ? nibbles<half>(lower[k]) : above;
#pragma GCC unroll 4
        for (int t = 0; t < tokens; t++) {
          int32_t four;
          std::memcpy(&four, q + static_cast<size_t>(t) * stride + k * 4, 4);
          const __m256i x = _mm256_set1_epi32(four);
          high[t] = _mm256_add_epi16(high[t], _mm256_maddubs_epi16(above, x));
          if constexpr (whole) low[t] = _mm256_add_epi16(low[t], _mm256_maddubs_epi16(below, x));
        }
      }
#pragma GCC unroll 4
      for (int t = 0; t < tokens; t++) {
        __m256i sum = _mm256_madd_epi16(high[t], _mm256_set1_epi16(16));
        if constexpr (whole) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low[t], _mm256_set1_epi16(1)));
        out[t] = {_mm256_cvtepi32_ps(sum)};
      }
    }
  }
};

}  // namespace shortlist::avx2
