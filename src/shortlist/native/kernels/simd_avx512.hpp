// Sixteen float lanes of AVX-512 (F, BW, VL, VNNI).
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace shortlist::avx512 {

struct F {
  static constexpr int lanes = 16;
  __m512 v;

  static F zero() { return {_mm512_setzero_ps()}; }
  static F set1(float x) { return {_mm512_set1_ps(x)}; }
  static F load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F load_f16(const uint16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
  static F load_bf16(const uint16_t* p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
  }
  static F load_int8(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  // The low or high 4 bits of 16 bytes, and 2^(e - 128) of each (see e8m0_to_float).
  static __m512i bytes(const uint8_t* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static F load_low4(const uint8_t* p) { return {_mm512_cvtepi32_ps(_mm512_and_si512(bytes(p), _mm512_set1_epi32(15)))}; }
  static F load_high4(const uint8_t* p) { return {_mm512_cvtepi32_ps(_mm512_srli_epi32(bytes(p), 4))}; }
  static F load_e8m0(const uint8_t* p) {
    const __m512i e = bytes(p), one = _mm512_set1_epi32(1), small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    return {_mm512_castsi512_ps(_mm512_mask_slli_epi32(small, _mm512_cmpgt_epi32_mask(e, one), _mm512_sub_epi32(e, one), 23))};
  }
  // Eight lanes of each.
  static F pair(float low, float high) { return {_mm512_mask_mov_ps(_mm512_set1_ps(low), 0xff00, _mm512_set1_ps(high))}; }
  static float half(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_f16(uint16_t* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  float sum() const { return _mm512_reduce_add_ps(v); }
  F last(int n) const { return {_mm512_maskz_mov_ps(static_cast<__mmask16>(0xffff0000u >> n), v)}; }  // the others become zero
  float max() const { return _mm512_reduce_max_ps(v); }
};
// out[i] = sum of the lanes of v[i] + rest[i], eight at once.
inline void sum_eight(const F* v, const float* rest, float* out) {
  __m256 half[8];
  for (int i = 0; i < 8; i++) half[i] = _mm256_add_ps(_mm512_castps512_ps256(v[i].v), _mm512_extractf32x8_ps(v[i].v, 1));
  __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(half[0], half[1]), _mm256_hadd_ps(half[2], half[3]));
  __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(half[4], half[5]), _mm256_hadd_ps(half[6], half[7]));
  __m256 sums = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  _mm256_storeu_ps(out, _mm256_add_ps(sums, _mm256_loadu_ps(rest)));
}
inline F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
// Bit i is set unless lane i of a is below that of b: a NaN is not.
inline uint32_t not_below(F a, F b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_NLT_UQ); }
inline F abs(F a) { return {_mm512_abs_ps(a.v)}; }

// The same range reduction and polynomial as the AVX2 path.
inline F exp(F a) {
  // In this order what is not a number stays so.
  __m512 x = _mm512_min_ps(_mm512_set1_ps(88.0f), _mm512_max_ps(_mm512_set1_ps(-87.3f), a.v));
  __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
  __m512 p = _mm512_set1_ps(1.0f / 720);
  for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  __m512i power = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
  __m512 y = _mm512_mul_ps(p, _mm512_castsi512_ps(power));
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, _mm512_set1_ps(-87.3f), _CMP_GE_OQ), y)};
}
inline F round(F a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline void store_int8(F a, int8_t* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a.v)));
}

}  // namespace shortlist::avx512
