// The codes of a tiled matrix in AVX2 registers, for every instruction set that has them. In an unnamed namespace: each file
// that includes this compiles it with its own flags, and the linker must not mix them up.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/kernels.hpp"

namespace shortlist {
namespace {

SHORTLIST_INLINE __m256i load_bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// Bits [bit, ...) of each byte moved to `to` and masked. Bits that cross bytes fall outside the mask.
SHORTLIST_INLINE __m256i field(__m256i bytes, int bit, int to, int mask) {
  if (bit < to) bytes = _mm256_slli_epi16(bytes, to - bit);
  if (bit > to) bytes = _mm256_srli_epi16(bytes, bit - to);
  return _mm256_and_si256(bytes, _mm256_set1_epi8(static_cast<char>(mask)));
}

// The values that a table gives for codes of 4 bits.
SHORTLIST_INLINE __m256i look_up(const int8_t* table, __m256i codes) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), codes);
}

// Codes of 8 bits and values of tables are signed; other codes are not.
constexpr bool signed_codes(const Format& f) { return f.bits == 8 || f.looked_up(); }

// The codes of step k of a slab, four columns of a row in each lane.
template <int id>
SHORTLIST_INLINE __m256i step_codes(const uint8_t* slab, int k) {
  constexpr Format f = kFormats[id];
  if constexpr (f.bits == 8) return load_bytes(slab + k * 32);
  __m256i codes = f.low_bits() == 2 ? field(load_bytes(slab + k / 4 * 32), k % 4 * 2, 0, 3)
      : field(load_bytes(slab + k % 4 * 32), k / 4 * 4, 0, 15);
  if constexpr (f.looked_up()) return look_up(f.table, codes);
  constexpr int low = f.low_bits(), planes = low * 32;
  if constexpr (f.planes() == 1) codes = _mm256_or_si256(codes, field(load_bytes(slab + planes), k, low, 1 << low));
  if constexpr (f.planes() == 2) codes = _mm256_or_si256(codes, field(load_bytes(slab + planes + k / 4 * 32), k % 4 * 2, low, 3 << low));
  return codes;
}

// The four columns of a query that meet them, in every lane.
SHORTLIST_INLINE __m256i step_query(const int8_t* q, int k) {
  int32_t four;
  std::memcpy(&four, q + k * 4, 4);
  return _mm256_set1_epi32(four);
}

}  // namespace
}  // namespace shortlist
