// AVX2 with FMA and F16C. Codes are unsigned bytes and activations signed, so maddubs gives sums of two products in
// int16; nibbles keep these far from saturation (15 * 127 * 2 = 3810), which is why 8-bit codes are taken as two nibbles.
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "kernels/simd_avx2.hpp"
#include "kernels/strips_avx2.hpp"
#include "kernels/channels_x86.hpp"
#include "kernels/slab_x86.hpp"
#define SHORTLIST_ISA_NAMESPACE avx2
#define SHORTLIST_ISA_NAME "avx2"

#include "kernels/kernels.hpp"

namespace shortlist::avx2 {

// Two accumulators: columns 0-31 and 32-63 of each block. For groups of 16 the halves of a register differ in scale.
struct BlockDot {
  __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();

  static __m256i codes(const uint8_t* nibbles, __m256i* upper) {
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(nibbles));
    *upper = _mm256_and_si256(_mm256_srli_epi16(b, 4), mask);
    return _mm256_and_si256(b, mask);
  }
  // Bytes of 32 columns, `value` where the column's bit is set.
  static __m256i spread_bits(const uint8_t* bits, int value) {
    int32_t word;
    __builtin_memcpy(&word, bits, 4);
    const __m256i pick = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
    __m256i bytes = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word), pick), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(bytes, bit), _mm256_set1_epi8(static_cast<char>(value)));
  }
  static __m256i dot(__m256i codes, __m256i q) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(codes, q), _mm256_set1_epi16(1));
  }
  static __m256 scale(const float* comb, int group) {
    if (group == 32) return _mm256_broadcast_ss(comb);
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_broadcast_ss(comb)), _mm_broadcast_ss(comb + 1), 1);
  }

  static __m256i load(const int8_t* q) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)); }

  // Fields of 2 bits: columns j and j + 16 of byte j, or with `more` the two after them.
  static __m256i crumbs(const uint8_t* low, int more) {
    const __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(low)));
    const __m256i shifts = _mm256_setr_epi32(more, more, more, more, more + 2, more + 2, more + 2, more + 2);
    return _mm256_and_si256(_mm256_srlv_epi32(bytes, shifts), _mm256_set1_epi8(3));
  }

  // One block of 64 columns: fields of 4 or 2 bits and bit planes; comb holds scales times d.
  template <int id>
  void block(const uint8_t* fields, const uint8_t* plane, const uint8_t* second, const int8_t* q, const float* comb) {
    constexpr Format f = kFormats[id];
    constexpr int group = f.group, bit = 1 << f.low_bits();
    __m256i c0, c1, q0 = load(q), q1 = load(q + 32);
    if constexpr (f.low_bits() == 2)
      c0 = crumbs(fields, 0), c1 = crumbs(fields, 4);
    else
      c0 = codes(fields, &c1);
    if constexpr (f.planes() >= 1) {
      c0 = _mm256_or_si256(c0, spread_bits(plane, bit));
      c1 = _mm256_or_si256(c1, spread_bits(plane + 4, bit));
    }
    if constexpr (f.planes() == 2) {
      c0 = _mm256_or_si256(c0, spread_bits(second, 2 * bit));
      c1 = _mm256_or_si256(c1, spread_bits(second + 4, 2 * bit));
    }
    if constexpr (f.looked_up()) {  // the signs go to the query
      c0 = look_up(f.table, c0), c1 = look_up(f.table, c1);
      q0 = _mm256_sign_epi8(q0, c0), q1 = _mm256_sign_epi8(q1, c1);
      c0 = _mm256_abs_epi8(c0), c1 = _mm256_abs_epi8(c1);
    }
    low = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot(c0, q0)), scale(comb, group), low);
    high = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot(c1, q1)), scale(comb + 32 / group, group), high);
  }
  F total() const { return {_mm256_add_ps(low, high)}; }
};

// Products of a slab (32 columns of 8 rows) of a tiled matrix.
struct SlabDot {
  using Lanes = F;

  // out[t] = the sums over the columns of steps [first, first + count), a row to a lane, for queries that lie `stride` bytes
  // apart. Codes are unpacked once for all queries.
  template <int id, int first, int count, int tokens>
  static SHORTLIST_INLINE void sums(const uint8_t* slab, const int8_t* q, size_t stride, Lanes* out) {
    constexpr bool with_signs = signed_codes(kFormats[id]);
    constexpr int bits = kFormats[id].bits;
    constexpr int fit = with_signs ? 1 : bits <= 4 ? 8 : bits == 5 ? 4 : 2;  // steps whose sums cannot leave int16
    constexpr int steps = fit < count ? fit : count;
    __m256i total[tokens];
#pragma GCC unroll 8
    for (int k = first; k < first + count; k += steps) {
      __m256i sum[tokens];
#pragma GCC unroll 8
      for (int i = k; i < k + steps; i++) {
        const __m256i codes = step_codes<id>(slab, i), sizes = with_signs ? _mm256_abs_epi8(codes) : codes;
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++) {
          __m256i x = step_query(q + static_cast<size_t>(t) * stride, i);
          if constexpr (with_signs) x = _mm256_sign_epi8(x, codes);  // 128 * 127 * 2 still fits
          const __m256i products = _mm256_maddubs_epi16(sizes, x);
          sum[t] = i == k ? products : _mm256_add_epi16(sum[t], products);
          // Or the compiler puts off all additions and spills the products.
          if constexpr (tokens > 1) asm("" : "+x"(sum[t]));
        }
      }
#pragma GCC unroll 8
      for (int t = 0; t < tokens; t++) {
        const __m256i wide = _mm256_madd_epi16(sum[t], _mm256_set1_epi16(1));
        total[t] = k == first ? wide : _mm256_add_epi32(total[t], wide);
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
  static SHORTLIST_INLINE void sums(const uint8_t* codes, const uint32_t* at, const int32_t* q, int quads, F* sums, Meanwhile meanwhile) {
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (bits < 8) {
      constexpr int fit = bits == 4 ? 8 : bits == 5 ? 4 : 2;  // quads whose sums cannot leave int16; a group has up to 8
      __m256i wide[8];
      for (int first = 0; first < quads; first += fit) {
        __m256i total[8];
        for (auto& t : total) t = _mm256_setzero_si256();
        for (int i = first; i < quads && i < first + fit; i++) {
          __m256i four[8];
          block_of_four<bits>(codes, at + i * 4, four);
          meanwhile();
          const __m256i x = _mm256_set1_epi32(q[i]);
#pragma GCC unroll 8
          for (int k = 0; k < 8; k++) total[k] = _mm256_add_epi16(total[k], _mm256_maddubs_epi16(four[k], x));
        }
        for (int k = 0; k < 8; k++) {
          const __m256i sum = _mm256_madd_epi16(total[k], ones);
          wide[k] = bits == 4 || first == 0 ? sum : _mm256_add_epi32(wide[k], sum);
        }
      }
      for (int k = 0; k < 8; k++) sums[k] = {_mm256_cvtepi32_ps(wide[k])};
    } else {
      for (int half = 0; half < 2; half++) {
        __m256i total[4];
        for (auto& t : total) t = _mm256_setzero_si256();
        for (int i = 0; i < quads; i++) {
          __m256i four[4];
          interleave(codes + half * 32, at + i * 4, four);
          meanwhile();
          const __m256i x = _mm256_set1_epi32(q[i]);
#pragma GCC unroll 4
          for (int k = 0; k < 4; k++) {  // the codes' signs go to x; 128 * 127 * 2 fits
            const __m256i products = _mm256_maddubs_epi16(_mm256_abs_epi8(four[k]), _mm256_sign_epi8(x, four[k]));
            total[k] = _mm256_add_epi32(total[k], _mm256_madd_epi16(products, ones));
          }
        }
        for (int k = 0; k < 4; k++) sums[half * 4 + k] = {_mm256_cvtepi32_ps(total[k])};
      }
    }
  }
};

}  // namespace shortlist::avx2

#include "kernels/kernels.inl"
#endif
