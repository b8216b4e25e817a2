// Codes of four input channels in AVX2 registers, for every instruction set that has them. In an unnamed namespace as slab_x86.hpp.
#pragma once
#include "kernels/slab_x86.hpp"

namespace shortlist {
namespace {

// The next 32 bytes of four channels, interleaved: byte 4 j + i of to[k] is from channel i, so that with the order of
// channel_place() 32-bit lane j of to[k] holds what meets output 8 k + j.
SHORTLIST_INLINE void interleave(const uint8_t* codes, const uint32_t* at, __m256i* to) {
  const __m256i a = load_bytes(codes + at[0]), b = load_bytes(codes + at[1]), c = load_bytes(codes + at[2]), d = load_bytes(codes + at[3]);
  const __m256i low_ab = _mm256_unpacklo_epi8(a, b), low_cd = _mm256_unpacklo_epi8(c, d);
  to[0] = _mm256_unpacklo_epi16(low_ab, low_cd);
  to[1] = _mm256_unpackhi_epi16(low_ab, low_cd);
  const __m256i high_ab = _mm256_unpackhi_epi8(a, b), high_cd = _mm256_unpackhi_epi8(c, d);
  to[2] = _mm256_unpacklo_epi16(high_ab, high_cd);
  to[3] = _mm256_unpackhi_epi16(high_ab, high_cd);
}

// The same of 8 bytes of four channels.
SHORTLIST_INLINE __m256i interleave_bits(const uint8_t* codes, const uint32_t* at) {
  auto load = [](const uint8_t* p) __attribute__((always_inline)) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); };
  const __m128i ab = _mm_unpacklo_epi8(load(codes + at[0]), load(codes + at[1])),
      cd = _mm_unpacklo_epi8(load(codes + at[2]), load(codes + at[3]));
  return _mm256_setr_m128i(_mm_unpacklo_epi16(ab, cd), _mm_unpackhi_epi16(ab, cd));
}

// Codes of 4 to 6 bits of four channels in a block: codes[k] meets outputs 8 k to 8 k + 7.
template <int bits>
SHORTLIST_INLINE void block_of_four(const uint8_t* from, const uint32_t* at, __m256i* codes) {
  interleave(from, at, codes);
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++) {
    codes[k + 4] = field(codes[k], 4, 0, 15);
    codes[k] = field(codes[k], 0, 0, 15);
  }
#pragma GCC unroll 2
  for (int plane = 0; plane < bits - 4; plane++) {
    const __m256i four = interleave_bits(from + 32 + plane * 8, at);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) codes[k] = _mm256_or_si256(codes[k], field(four, k, 4 + plane, 16 << plane));
  }
}

}  // namespace
}  // namespace shortlist
