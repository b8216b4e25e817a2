// AVX-512 with VNNI: dpbusd adds four products of unsigned codes and signed activations into int32, exactly.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)
#include "kernels/simd_avx512.hpp"
#include "kernels/strips_avx512.hpp"
#include "kernels/channels_x86.hpp"
#include "kernels/slab_x86.hpp"
#define SHORTLIST_ISA_NAMESPACE avx512
#define SHORTLIST_ISA_NAME "avx512"

#include "kernels/kernels.hpp"

namespace shortlist::avx512 {

// A block of 64 columns is one register; lanes 0-7 hold columns 0-31 and lanes 8-15 columns 32-63.
struct BlockDot {
  __m512 sum = _mm512_setzero_ps();

  static __m512i codes(const uint8_t* nibbles) {
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(nibbles));
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_and_si256(b, mask)), _mm256_and_si256(_mm256_srli_epi16(b, 4), mask), 1);
  }
  static __m512i with_plane(__m512i codes, const uint8_t* bits, int value) {
    __mmask64 mask;
    __builtin_memcpy(&mask, bits, 8);
    return _mm512_mask_add_epi8(codes, mask, codes, _mm512_set1_epi8(static_cast<char>(value)));
  }
  static __m512 scale(const float* comb, int group) {
    if (group == 32)
      return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_broadcast_ss(comb)), _mm256_broadcast_ss(comb + 1), 1);
    const __m512i pick = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_ps(pick, _mm512_castps128_ps512(_mm_loadu_ps(comb)));
  }

  void add(__m512i c, __m512i q, __m512 scales) {
    const __m512i products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), c, q);
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, sum);
  }

  // Fields of 2 bits: 16 bytes, whose columns are j, j + 16, j + 32 and j + 48.
  static __m512i crumbs(const uint8_t* fields) {
    const __m512i bytes = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(fields)));
    const __m512i shifts = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
    return _mm512_and_si512(_mm512_srlv_epi32(bytes, shifts), _mm512_set1_epi8(3));
  }

  template <int id>
  void block(const uint8_t* fields, const uint8_t* plane, const uint8_t* second, const int8_t* q, const float* comb) {
    constexpr Format f = kFormats[id];
    __m512i c;
    if constexpr (f.low_bits() == 2)
      c = crumbs(fields);
    else
      c = codes(fields);
    if constexpr (f.planes() >= 1) c = with_plane(c, plane, 1 << f.low_bits());
    if constexpr (f.planes() == 2) c = with_plane(c, second, 2 << f.low_bits());
    __m512i x = _mm512_loadu_si512(q);
    if constexpr (f.looked_up()) {  // the signs go to the query
      c = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(f.table))), c);
      x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(c), _mm512_setzero_si512(), x);
      c = _mm512_abs_epi8(c);
    }
    add(c, x, scale(comb, f.group));
  }
  F total() const { return {sum}; }
};

// Products of a slab (32 columns of 8 rows) of a tiled matrix. Eight lanes are enough where memory is the limit.
struct SlabDot {
  struct Lanes {
    __m256 v;
    static Lanes zero() { return {_mm256_setzero_ps()}; }
    static Lanes set1(float x) { return {_mm256_set1_ps(x)}; }
    static Lanes load_f16(const uint16_t* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
    static Lanes load_int8(const int8_t* p) {
      return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
    }
    static __m256i bytes(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
    static Lanes load_low4(const uint8_t* p) { return {_mm256_cvtepi32_ps(_mm256_and_si256(bytes(p), _mm256_set1_epi32(15)))}; }
    static Lanes load_high4(const uint8_t* p) { return {_mm256_cvtepi32_ps(_mm256_srli_epi32(bytes(p), 4))}; }
    static Lanes load_e8m0(const uint8_t* p) {  // see e8m0_to_float
      const __m256i e = bytes(p), one = _mm256_set1_epi32(1), small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
      return {_mm256_castsi256_ps(_mm256_mask_slli_epi32(small, _mm256_cmpgt_epi32_mask(e, one), _mm256_sub_epi32(e, one), 23))};
    }
    static Lanes load(const float* p) { return {_mm256_loadu_ps(p)}; }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    friend Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.v, b.v)}; }
    friend Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.v, b.v)}; }
    friend Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  };

  // out[t] = the sums over the columns of steps [first, first + count), a row to a lane, for queries that lie `stride` bytes
  // apart. Codes are unpacked once for all queries.
  template <int id, int first, int count, int tokens>
  static SHORTLIST_INLINE void sums(const uint8_t* slab, const int8_t* q, size_t stride, Lanes* out) {
    constexpr bool with_signs = signed_codes(kFormats[id]);
    __m256i total[tokens];
    for (auto& t : total) t = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int k = first; k < first + count; k++) {
      const __m256i codes = step_codes<id>(slab, k), sizes = with_signs ? _mm256_abs_epi8(codes) : codes;
#pragma GCC unroll 8
      for (int t = 0; t < tokens; t++) {
        __m256i x = step_query(q + static_cast<size_t>(t) * stride, k);
        if constexpr (with_signs) x = _mm256_sign_epi8(x, codes);
        total[t] = _mm256_dpbusd_epi32(total[t], sizes, x);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++) out[t] = {_mm256_cvtepi32_ps(total[t])};
  }
};

// Products of the listed channels of a group: 64 outputs, 8 to a register.
struct ChannelDot {
  // sums[o] = the codes of four channels each, times q; channel i of them lies at codes + at[i]. Calls
  // meanwhile() for each four of them.
  template <int bits, class Meanwhile>
  static SHORTLIST_INLINE void sums(const uint8_t* codes, const uint32_t* at, const int32_t* q, int quads, SlabDot::Lanes* sums,
                                    Meanwhile meanwhile) {
    __m256i total[8];
    for (auto& t : total) t = _mm256_setzero_si256();
    for (int i = 0; i < quads; i++) {
      const __m256i x = _mm256_set1_epi32(q[i]);
      if constexpr (bits < 8) {
        __m256i four[8];
        block_of_four<bits>(codes, at + i * 4, four);
        meanwhile();
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) total[k] = _mm256_dpbusd_epi32(total[k], four[k], x);
      } else {
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
          __m256i four[4];
          interleave(codes + half * 32, at + i * 4, four);
          meanwhile();
#pragma GCC unroll 4
          for (int k = 0; k < 4; k++)  // the codes' signs go to x
            total[half * 4 + k] = _mm256_dpbusd_epi32(total[half * 4 + k], _mm256_abs_epi8(four[k]), _mm256_sign_epi8(x, four[k]));
        }
      }
    }
    for (int k = 0; k < 8; k++) sums[k] = {_mm256_cvtepi32_ps(total[k])};
  }
};

}  // namespace shortlist::avx512

#include "kernels/kernels.inl"
#endif
