// Codes of four input channels in AVX2 registers, for every instruction set that has them. In an unnamed namespace as slab_x86.hpp.
#pragma once
#include "slab_x86.hpp"

namespace shortlist {
namespace {

// The next 32 bytes of four channels, interleaved: byte 4 j + i of to[k] is from channel i, so that with the order of
// channel_place() 32-bit lane j of to[k] holds what meets output 8 k + j.
SHORTLIST_INLINE void interleave(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d, __m256i* to) {
  const __m256i ra = load_bytes(a), rb = load_bytes(b), rc = load_bytes(c), rd = load_bytes(d);
  const __m256i low_ab = _mm256_unpacklo_epi8(ra, rb), high_ab = _mm256_unpackhi_epi8(ra, rb);
  const __m256i low_cd = _mm256_unpacklo_epi8(rc, rd), high_cd = _mm256_unpackhi_epi8(rc, rd);
  to[0] = _mm256_unpacklo_epi16(low_ab, low_cd);
  to[1] = _mm256_unpackhi_epi16(low_ab, low_cd);
  to[2] = _mm256_unpacklo_epi16(high_ab, high_cd);
  to[3] = _mm256_unpackhi_epi16(high_ab, high_cd);
}

}  // namespace
}  // namespace shortlist
