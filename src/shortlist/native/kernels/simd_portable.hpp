// Eight float lanes in plain C++: the readable twin of the vector paths, and what other processors compile.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "formats/half.hpp"

namespace shortlist::portable {

struct F {
  static constexpr int lanes = 8;
  float v[lanes];

  static F zero() { return set1(0.0f); }
  static F set1(float x) {
    F r;
    for (float& e : r.v) e = x;
    return r;
  }
  static F load(const float* p) {
    F r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static F load_f16(const uint16_t* p) {
    F r;
    for (int i = 0; i < lanes; i++) r.v[i] = half_to_float(p[i]);
    return r;
  }
  static F load_bf16(const uint16_t* p) {
    F r;
    for (int i = 0; i < lanes; i++) r.v[i] = bfloat_to_float(p[i]);
    return r;
  }
  static F load_int8(const int8_t* p) {
    F r;
    for (int i = 0; i < lanes; i++) r.v[i] = p[i];
    return r;
  }
  static F load_low4(const uint8_t* p) {
    F r;
    for (int i = 0; i < lanes; i++) r.v[i] = static_cast<float>(p[i] & 15);
    return r;
  }
  static F load_high4(const uint8_t* p) {
    F r;
    for (int i = 0; i < lanes; i++) r.v[i] = static_cast<float>(p[i] >> 4);
    return r;
  }
  static F load_e8m0(const uint8_t* p) {
    F r;
    for (int i = 0; i < lanes; i++) r.v[i] = e8m0_to_float(p[i]);
    return r;
  }
  static float half(uint16_t h) { return half_to_float(h); }
  void store(float* p) const { std::memcpy(p, v, sizeof v); }
  void store_f16(uint16_t* p) const {
    for (int i = 0; i < lanes; i++) p[i] = float_to_half(v[i]);
  }
  float sum() const {
    float a = v[0] + v[4], b = v[1] + v[5], c = v[2] + v[6], d = v[3] + v[7];
    return (a + c) + (b + d);
  }
  F last(int n) const {  // the others become zero
    F r = *this;
    for (int i = 0; i < lanes - n; i++) r.v[i] = 0.0f;
    return r;
  }
  float max() const {
    float m = v[0];
    for (float e : v) m = e > m ? e : m;
    return m;
  }
};
// out[i] = sum of the lanes of v[i] + rest[i], eight at once.
inline void sum_eight(const F* v, const float* rest, float* out) {
  for (int i = 0; i < 8; i++) out[i] = v[i].sum() + rest[i];
}
inline F operator+(F a, F b) {
  for (int i = 0; i < F::lanes; i++) a.v[i] += b.v[i];
  return a;
}
inline F operator-(F a, F b) {
  for (int i = 0; i < F::lanes; i++) a.v[i] -= b.v[i];
  return a;
}
inline F operator*(F a, F b) {
  for (int i = 0; i < F::lanes; i++) a.v[i] *= b.v[i];
  return a;
}
inline F operator/(F a, F b) {
  for (int i = 0; i < F::lanes; i++) a.v[i] /= b.v[i];
  return a;
}
inline F fma(F a, F b, F c) { return a * b + c; }
inline F max(F a, F b) {
  for (int i = 0; i < F::lanes; i++) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
inline uint32_t not_below(F a, F b) {
  uint32_t bits = 0;
  for (int i = 0; i < F::lanes; i++) bits |= static_cast<uint32_t>(!(a.v[i] < b.v[i])) << i;
  return bits;
}
inline F abs(F a) {
  for (float& e : a.v) e = std::fabs(e);
  return a;
}
inline F exp(F a) {
  for (float& e : a.v) e = std::exp(e);
  return a;
}
inline F round(F a) {  // to nearest, ties to even, as the vector units do
  for (float& e : a.v) e = std::nearbyint(e);
  return a;
}
inline void store_int8(F a, int8_t* p) {  // a holds whole numbers
  for (int i = 0; i < F::lanes; i++) p[i] = static_cast<int8_t>(a.v[i]);
}

}  // namespace shortlist::portable
