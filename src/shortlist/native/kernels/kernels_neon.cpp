// ARM's NEON with the dot product of Armv8.2: sdot adds four products of signed bytes into int32, exactly.
#if defined(__ARM_FEATURE_DOTPROD)
#include "kernels/simd_neon.hpp"
#include "kernels/strips_neon.hpp"
#define SHORTLIST_ISA_NAMESPACE neon
#define SHORTLIST_ISA_NAME "neon"

#include "kernels/kernels.hpp"

namespace shortlist::neon {

// Bits [bit, ...) of each byte moved to `to` and masked.
static SHORTLIST_INLINE uint8x16_t field(uint8x16_t bytes, int bit, int to, int mask) {
  return vandq_u8(vshlq_u8(bytes, vdupq_n_s8(static_cast<int8_t>(to - bit))), vdupq_n_u8(static_cast<uint8_t>(mask)));
}

// Codes fit signed bytes: those of tables are signed, others small.
template <int id>
static SHORTLIST_INLINE int8x16_t to_signed(uint8x16_t codes) {
  if constexpr (kFormats[id].looked_up()) return vqtbl1q_s8(vld1q_s8(kFormats[id].table), codes);
  return vreinterpretq_s8_u8(codes);
}

// Columns 0-31 of a block add up in the low register, columns 32-63 in the high one.
struct BlockDot {
  F sum = F::zero();

  // 16 columns' bits of a plane, `value` where set.
  static uint8x16_t spread_bits(const uint8_t* bits, int value) {
    alignas(16) static constexpr uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bytes = vcombine_u8(vdup_n_u8(bits[0]), vdup_n_u8(bits[1]));
    return vandq_u8(vtstq_u8(bytes, vld1q_u8(bit)), vdupq_n_u8(static_cast<uint8_t>(value)));
  }

  template <int id>
  void block(const uint8_t* fields, const uint8_t* plane, const uint8_t* second, const int8_t* q, const float* comb) {
    constexpr Format f = kFormats[id];
    constexpr int bit = 1 << f.low_bits();
    int32x4_t products[4];
    for (int part = 0; part < 4; part++) {  // of 16 columns
      uint8x16_t c = f.low_bits() == 2 ? field(vld1q_u8(fields), part * 2, 0, 3)
          : field(vld1q_u8(fields + part % 2 * 16), part / 2 * 4, 0, 15);
      if constexpr (f.planes() >= 1) c = vorrq_u8(c, spread_bits(plane + part * 2, bit));
      if constexpr (f.planes() == 2) c = vorrq_u8(c, spread_bits(second + part * 2, 2 * bit));
      products[part] = vdotq_s32(vdupq_n_s32(0), to_signed<id>(c), vld1q_s8(q + part * 16));
    }
    auto add = [&](float32x4_t& to, int first) {
      if constexpr (f.group == 32) {
        to = vfmaq_n_f32(to, vcvtq_f32_s32(vaddq_s32(products[first], products[first + 1])), comb[first / 2]);
      } else {
        to = vfmaq_n_f32(to, vcvtq_f32_s32(products[first]), comb[first]);
        to = vfmaq_n_f32(to, vcvtq_f32_s32(products[first + 1]), comb[first + 1]);
      }
    };
    add(sum.low, 0);
    add(sum.high, 2);
  }
  F total() const { return sum; }
};

// Products of a slab (32 columns of 8 rows) of a tiled matrix.
struct SlabDot {
  using Lanes = F;

  // Half i (rows 4 i to 4 i + 3) of the codes of step k of a slab.
  template <int id>
  static SHORTLIST_INLINE int8x16_t step_codes(const uint8_t* slab, int k, int i) {
    constexpr Format f = kFormats[id];
    auto bytes = [&](int at) { return vld1q_u8(slab + at * 32 + i * 16); };
    if constexpr (f.bits == 8) return vreinterpretq_s8_u8(bytes(k));
    constexpr int low = f.low_bits();
    uint8x16_t codes = low == 2 ? field(bytes(k / 4), k % 4 * 2, 0, 3) : field(bytes(k % 4), k / 4 * 4, 0, 15);
    if constexpr (f.planes() == 1) codes = vorrq_u8(codes, field(bytes(low), k, low, 1 << low));
    if constexpr (f.planes() == 2) codes = vorrq_u8(codes, field(bytes(low + k / 4), k % 4 * 2, low, 3 << low));
    return to_signed<id>(codes);
  }

  // out[t] = the sums over the columns of steps [first, first + count), a row to a lane, for queries that lie `stride` bytes
  // apart. Codes are unpacked once for all queries.
  template <int id, int first, int count, int tokens>
  static SHORTLIST_INLINE void sums(const uint8_t* slab, const int8_t* q, size_t stride, Lanes* out) {
    int32x4_t total[tokens][2];
    for (auto& t : total) t[0] = t[1] = vdupq_n_s32(0);
#pragma GCC unroll 8
    for (int k = first; k < first + count; k++) {
      const int8x16_t low = step_codes<id>(slab, k, 0), high = step_codes<id>(slab, k, 1);
#pragma GCC unroll 8
      for (int t = 0; t < tokens; t++) {
        int32_t four;
        std::memcpy(&four, q + static_cast<size_t>(t) * stride + k * 4, 4);
        const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
        total[t][0] = vdotq_s32(total[t][0], low, x);
        total[t][1] = vdotq_s32(total[t][1], high, x);
      }
    }
    for (int t = 0; t < tokens; t++) out[t] = {vcvtq_f32_s32(total[t][0]), vcvtq_f32_s32(total[t][1])};
  }
};

// Products of the listed channels of a group: 64 outputs, 8 to two registers.
struct ChannelDot {
  // The next 32 bytes of four channels, interleaved: to[k][i] holds what meets outputs 8 k + 4 i to 8 k + 4 i + 3.
  static SHORTLIST_INLINE void interleave(const uint8_t* codes, const uint32_t* at, uint8x16_t (*to)[2]) {
    for (int i = 0; i < 2; i++) {
      auto part = [&](int c) { return vld1q_u8(codes + at[c] + i * 16); };
      const uint8x16_t a = part(0), b = part(1), c = part(2), d = part(3);
      const uint16x8_t low_ab = vreinterpretq_u16_u8(vzip1q_u8(a, b)), low_cd = vreinterpretq_u16_u8(vzip1q_u8(c, d));
      const uint16x8_t high_ab = vreinterpretq_u16_u8(vzip2q_u8(a, b)), high_cd = vreinterpretq_u16_u8(vzip2q_u8(c, d));
      to[0][i] = vreinterpretq_u8_u16(vzip1q_u16(low_ab, low_cd)), to[1][i] = vreinterpretq_u8_u16(vzip2q_u16(low_ab, low_cd));
      to[2][i] = vreinterpretq_u8_u16(vzip1q_u16(high_ab, high_cd)), to[3][i] = vreinterpretq_u8_u16(vzip2q_u16(high_ab, high_cd));
    }
  }

  // sums[o] = the codes of four channels each, times q; channel i of them lies at codes + at[i]. Calls meanwhile() for each
  // four of them.
  template <int bits, class Meanwhile>
  static SHORTLIST_INLINE void sums(const uint8_t* codes, const uint32_t* at, const int32_t* q, int quads, F* sums, Meanwhile meanwhile) {
    int32x4_t total[8][2];
    for (auto& t : total) t[0] = t[1] = vdupq_n_s32(0);
    for (int i = 0; i < quads; i++, at += kTogetherInputs) {
      const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(q[i]));
      uint8x16_t four[8][2];
      interleave(codes, at, four);
      if constexpr (bits == 8) {
        interleave(codes + 32, at, four + 4);
      } else {
        for (int k = 0; k < 4; k++)
          for (int h = 0; h < 2; h++) four[k + 4][h] = field(four[k][h], 4, 0, 15), four[k][h] = field(four[k][h], 0, 0, 15);
        for (int plane = 0; plane < bits - 4; plane++) {
          auto part = [&](int c) { return vld1_u8(codes + at[c] + 32 + plane * 8); };
          const uint8x8x2_t ab = vzip_u8(part(0), part(1)), cd = vzip_u8(part(2), part(3));
          const uint16x8_t first = vreinterpretq_u16_u8(vcombine_u8(ab.val[0], ab.val[1])),
              last = vreinterpretq_u16_u8(vcombine_u8(cd.val[0], cd.val[1]));
          const uint8x16_t bit[2] = {vreinterpretq_u8_u16(vzip1q_u16(first, last)), vreinterpretq_u8_u16(vzip2q_u16(first, last))};
          for (int k = 0; k < 8; k++)
            for (int h = 0; h < 2; h++) four[k][h] = vorrq_u8(four[k][h], field(bit[h], k, 4 + plane, 16 << plane));
        }
      }
      meanwhile();
      for (int k = 0; k < 8; k++)
        for (int h = 0; h < 2; h++) total[k][h] = vdotq_s32(total[k][h], vreinterpretq_s8_u8(four[k][h]), x);
    }
    for (int k = 0; k < 8; k++) sums[k] = {vcvtq_f32_s32(total[k][0]), vcvtq_f32_s32(total[k][1])};
  }
};

}  // namespace shortlist::neon

#include "kernels/kernels.inl"
#endif
