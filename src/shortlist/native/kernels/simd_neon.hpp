// Eight float lanes of ARM's Advanced SIMD (NEON), in two registers.
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <initializer_list>

namespace shortlist::neon {

struct F {
  static constexpr int lanes = 8;
  float32x4_t low, high;

  static F zero() { return set1(0.0f); }
  static F set1(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
  static F load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
  static F load_f16(const uint16_t* p) {
    const float16x8_t h = vreinterpretq_f16_u16(vld1q_u16(p));
    return {vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)};
  }
  static F load_bf16(const uint16_t* p) {
    const uint16x8_t h = vld1q_u16(p);
    return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(h, 16))};
  }
  static F load_int8(const int8_t* p) {
    const int16x8_t wide = vmovl_s8(vld1_s8(p));
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide))};
  }
  static F of_bytes(uint8x8_t bytes) {
    const uint16x8_t wide = vmovl_u8(bytes);
    return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))), vcvtq_f32_u32(vmovl_high_u16(wide))};
  }
  static F load_low4(const uint8_t* p) { return of_bytes(vand_u8(vld1_u8(p), vdup_n_u8(15))); }
  static F load_high4(const uint8_t* p) { return of_bytes(vshr_n_u8(vld1_u8(p), 4)); }
  static F load_e8m0(const uint8_t* p) {  // 2^(e - 128), see e8m0_to_float
    const uint16x8_t wide = vmovl_u8(vld1_u8(p));
    auto power = [](uint32x4_t e) {
      const uint32x4_t one = vdupq_n_u32(1), small = vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(e));
      return vreinterpretq_f32_u32(vbslq_u32(vcgtq_u32(e, one), vshlq_n_u32(vsubq_u32(e, one), 23), small));
    };
    return {power(vmovl_u16(vget_low_u16(wide))), power(vmovl_high_u16(wide))};
  }
  static float half(uint16_t h) { return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0); }
  void store(float* p) const { vst1q_f32(p, low), vst1q_f32(p + 4, high); }
  void store_f16(uint16_t* p) const { vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(low), high))); }
  float sum() const {
    const float32x4_t s = vaddq_f32(low, high);
    const float32x2_t pair = vadd_f32(vget_low_f32(s), vget_high_f32(s));
    return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
  }
  F last(int n) const {  // the others become zero
    alignas(16) static constexpr uint32_t mask[16] = {0, 0, 0, 0, 0, 0, 0, 0, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
    auto kept = [](float32x4_t v, const uint32_t* m) { return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vld1q_u32(m))); };
    return {kept(low, mask + n), kept(high, mask + n + 4)};
  }
  float max() const { return vmaxvq_f32(vmaxq_f32(low, high)); }
};
// out[i] = sum of the lanes of v[i] + rest[i], eight at once.
inline void sum_eight(const F* v, const float* rest, float* out) {
  for (int i = 0; i < 8; i++) out[i] = v[i].sum() + rest[i];
}
inline F operator+(F a, F b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
inline F operator-(F a, F b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
inline F operator*(F a, F b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
inline F operator/(F a, F b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
inline F fma(F a, F b, F c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
inline F max(F a, F b) {  // b where either is not a number, as on other processors
  return {vbslq_f32(vcgtq_f32(a.low, b.low), a.low, b.low), vbslq_f32(vcgtq_f32(a.high, b.high), a.high, b.high)};
}
// Bit i is set unless lane i of a is below that of b: a NaN is not.
inline uint32_t not_below(F a, F b) {
  alignas(16) static constexpr uint32_t bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const uint32x4_t low = vbicq_u32(vld1q_u32(bit), vcltq_f32(a.low, b.low)),
      high = vbicq_u32(vld1q_u32(bit + 4), vcltq_f32(a.high, b.high));
  return vaddvq_u32(vorrq_u32(low, high));
}
inline F abs(F a) { return {vabsq_f32(a.low), vabsq_f32(a.high)}; }

// The same range reduction and polynomial as the AVX2 path; what is not a number stays so.
inline float32x4_t exp(float32x4_t a) {
  const float32x4_t x = vminq_f32(vdupq_n_f32(88.0f), vmaxq_f32(vdupq_n_f32(-87.3f), a));
  const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
  const float32x4_t r = vfmsq_f32(vfmsq_f32(x, n, vdupq_n_f32(0.693145752f)), n, vdupq_n_f32(1.42860677e-6f));
  float32x4_t p = vdupq_n_f32(1.0f / 720);
  for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = vfmaq_f32(vdupq_n_f32(c), p, r);
  const int32x4_t power = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
  const float32x4_t y = vmulq_f32(p, vreinterpretq_f32_s32(power));
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltq_f32(a, vdupq_n_f32(-87.3f))));  // far tails are exactly 0
}
inline F exp(F a) { return {exp(a.low), exp(a.high)}; }
inline F round(F a) { return {vrndnq_f32(a.low), vrndnq_f32(a.high)}; }
inline void store_int8(F a, int8_t* p) {
  vst1_s8(p, vqmovn_s16(vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(a.low)), vqmovn_s32(vcvtnq_s32_f32(a.high)))));
}

}  // namespace shortlist::neon
