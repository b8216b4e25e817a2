// Codes of four input channels in AVX2 registers, for every instruction set that has them. In an unnamed namespace as slab_x86.hpp.
#pragma once
#include "slab_x86.hpp"

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

}  // namespace
}  // namespace shortlist
