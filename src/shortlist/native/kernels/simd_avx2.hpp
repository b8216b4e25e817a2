// Eight float lanes of AVX2 with FMA and F16C.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace shortlist::avx2 {

struct F {
  static constexpr int lanes = 8;
  __m256 v;

  static F zero() { return {_mm256_setzero_ps()}; }
  static F set1(float x) { return {_mm256_set1_ps(x)}; }
  static F load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static F load_f16(const uint16_t* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
  static F load_bf16(const uint16_t* p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))};
  }
  static F load_int8(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  // The low or high 4 bits of 8 bytes, and 2^(e - 128) of each (see e8m0_to_float).
  static __m256i bytes(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
  static F load_low4(const uint8_t* p) { return {_mm256_cvtepi32_ps(_mm256_and_si256(bytes(p), _mm256_set1_epi32(15)))}; }
  static F load_high4(const uint8_t* p) { return {_mm256_cvtepi32_ps(_mm256_srli_epi32(bytes(p), 4))}; }
  static F load_e8m0(const uint8_t* p) {
    const __m256i e = bytes(p), one = _mm256_set1_epi32(1), small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    return {_mm256_castsi256_ps(_mm256_blendv_epi8(small, _mm256_slli_epi32(_mm256_sub_epi32(e, one), 23), _mm256_cmpgt_epi32(e, one)))};
  }
  static float half(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_f16(uint16_t* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  float sum() const {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
  }
  F last(int n) const {  // the others become zero
    alignas(32) static constexpr int32_t mask[16] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};
    return {_mm256_and_ps(v, _mm256_loadu_ps(reinterpret_cast<const float*>(mask + n)))};
  }
  float max() const {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
  }
};
// out[i] = sum of the lanes of v[i] + rest[i], eight at once.
inline void sum_eight(const F* v, const float* rest, float* out) {
  __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0].v, v[1].v), _mm256_hadd_ps(v[2].v, v[3].v));
  __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(v[4].v, v[5].v), _mm256_hadd_ps(v[6].v, v[7].v));
  __m256 sums = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  _mm256_storeu_ps(out, _mm256_add_ps(sums, _mm256_loadu_ps(rest)));
}
inline F operator+(F a, F b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline F max(F a, F b) { return {_mm256_max_ps(a.v, b.v)}; }
// Bit i is set unless lane i of a is below that of b: a NaN is not.
inline uint32_t not_below(F a, F b) { return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_NLT_UQ))); }
inline F abs(F a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }

// exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln(2) / 2; degree-6 Taylor in r: relative error below 2e-7.
inline F exp(F a) {
  // In this order what is not a number stays so.
  __m256 x = _mm256_min_ps(_mm256_set1_ps(88.0f), _mm256_max_ps(_mm256_set1_ps(-87.3f), a.v));
  __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693145752f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(1.42860677e-6f), r);
  __m256 p = _mm256_set1_ps(1.0f / 720);
  for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
  __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  __m256 y = _mm256_mul_ps(p, _mm256_castsi256_ps(power));
  return {_mm256_and_ps(y, _mm256_cmp_ps(a.v, _mm256_set1_ps(-87.3f), _CMP_GE_OQ))};  // far tails are exactly 0
}
inline F round(F a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline void store_int8(F a, int8_t* p) {
  __m256i i = _mm256_cvtps_epi32(a.v);
  __m128i s = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(s, s));
}

}  // namespace shortlist::avx2
