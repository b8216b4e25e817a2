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

  void add(__m512i c, const int8_t* q, __m512 scales) {
    const __m512i products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), c, _mm512_loadu_si512(q));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, sum);
  }

  template <int bits, int group>
  void block(const uint8_t* nibbles, const uint8_t* plane4, const uint8_t* plane5, const int8_t* q, const float* comb) {
    __m512i c = codes(nibbles);
    if constexpr (bits >= 5) c = with_plane(c, plane4, 16);
    if constexpr (bits == 6) c = with_plane(c, plane5, 32);
    add(c, q, scale(comb, group));
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
    static Lanes load(const float* p) { return {_mm256_loadu_ps(p)}; }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    friend Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.v, b.v)}; }
    friend Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.v, b.v)}; }
    friend Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  };

  // out[t] = the sums over the columns of steps [first, first + count), a row to a lane, for queries that lie `stride` bytes
  // apart; 8-bit codes are signed. Codes are unpacked once for all queries.
  template <int bits, int first, int count, int tokens>
  static SHORTLIST_INLINE void sums(const uint8_t* slab, const int8_t* q, size_t stride, Lanes* out) {
    __m256i total[tokens];
    for (auto& t : total) t = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int k = first; k < first + count; k++) {
      const __m256i codes = step_codes<bits>(slab, k), sizes = bits == 8 ? _mm256_abs_epi8(codes) : codes;
#pragma GCC unroll 8
      for (int t = 0; t < tokens; t++) {
        __m256i x = step_query(q + static_cast<size_t>(t) * stride, k);
        if constexpr (bits == 8) x = _mm256_sign_epi8(x, codes);
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
