// Every kernel, written once against F (float lanes), BlockDot and SlabDot of the including instruction set.
// Included by kernels_*.cpp, which defines SHORTLIST_ISA_NAMESPACE; no include guard on purpose.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "formats/half.hpp"

namespace shortlist::SHORTLIST_ISA_NAMESPACE {

// Software prefetch, in bytes ahead of the row being read. Rows are read a strip at a time, scales first, so it must be
// more than a strip; 4-10 KB measured alike, 3 KB and none slower.
constexpr int kAhead = 8192;

static inline void fetch(const uint8_t* from, const uint8_t* to) {
  for (; from < to; from += 64) __builtin_prefetch(from);
}

// ---- sums over lanes --------------------------------------------------------------------------------------------

// out[i] = sum of the lanes of v[i] + rest[i], for n <= 8. Each sum adds in the same order, whatever its place.
static inline void sum_each(F* v, const float* rest, int n, float* out) {
  if (n == 8) return sum_eight(v, rest, out);
  float all[8], none[8] = {};
  std::memcpy(none, rest, sizeof(float) * static_cast<size_t>(n));
  for (int i = n; i < 8; i++) v[i] = F::zero();
  sum_eight(v, none, all);
  std::memcpy(out, all, sizeof(float) * static_cast<size_t>(n));
}

#include "kernels/scales.inl"
#include "kernels/dots.inl"
#include "kernels/axpy.inl"
#include "kernels/channels.inl"
#include "kernels/grouped.inl"

// ---- the rest of a layer and of a head --------------------------------------------------------------------------

// Applies vector(i) to whole registers and scalar(i) to the rest.
template <class Vector, class Scalar>
static void each(int n, Vector vector, Scalar scalar) {
  int i = 0;
  for (; i + F::lanes <= n; i += F::lanes) vector(i);
  for (; i < n; i++) scalar(i);
}

static void rms_norm(const float* x, const float* weight, int n, float eps, float* y) {
  F squares = F::zero();
  float tail = 0.0f;
  each(n, [&](int i) { squares = fma(F::load(x + i), F::load(x + i), squares); }, [&](int i) { tail += x[i] * x[i]; });
  const float inverse = 1.0f / std::sqrt((squares.sum() + tail) / static_cast<float>(n) + eps);
  each(n, [&](int i) { (F::load(x + i) * F::set1(inverse) * F::load(weight + i)).store(y + i); },
       [&](int i) { y[i] = x[i] * inverse * weight[i]; });
}

static void gated_silu(const float* gate, const float* up, int n, float* y) {
  const F one = F::set1(1.0f);
  each(n, [&](int i) {
    F g = F::load(gate + i);
    (g / (one + exp(F::zero() - g)) * F::load(up + i)).store(y + i);
  }, [&](int i) { y[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i]; });
}

// gelu_tanh(x) = x * sigmoid(2 z), z = sqrt(2 / pi) (x + 0.044715 x^3)
static void gated_gelu(const float* gate, const float* up, int n, float* y) {
  const F one = F::set1(1.0f), c = F::set1(-1.5957691216f), cubic = F::set1(0.044715f);
  each(n, [&](int i) {
    F g = F::load(gate + i), minus_2z = c * fma(g * g * g, cubic, g);
    (g / (one + exp(minus_2z)) * F::load(up + i)).store(y + i);
  }, [&](int i) {
    float g = gate[i], minus_2z = -1.5957691216f * (g + 0.044715f * g * g * g);
    y[i] = g / (1.0f + std::exp(minus_2z)) * up[i];
  });
}

static void rope_half(float* x, const float* cosine, const float* sine, int half) {
  each(half, [&](int i) {
    F a = F::load(x + i), b = F::load(x + half + i), c = F::load(cosine + i), s = F::load(sine + i);
    (a * c - b * s).store(x + i);
    (b * c + a * s).store(x + half + i);
  }, [&](int i) {
    float a = x[i], b = x[half + i];
    x[i] = a * cosine[i] - b * sine[i];
    x[half + i] = b * cosine[i] + a * sine[i];
  });
}

static void add(const float* x, int n, float* y) {
  each(n, [&](int i) { (F::load(x + i) + F::load(y + i)).store(y + i); }, [&](int i) { y[i] += x[i]; });
}

#include "kernels/attention.inl"

static void store_f16(const float* x, int n, uint16_t* y) {
  each(n, [&](int i) { F::load(x + i).store_f16(y + i); }, [&](int i) { y[i] = float_to_half(x[i]); });
}

static void argmax(const float* x, int64_t n, float* best, int64_t* where) {
  F top = F::set1(x[0]);
  float largest = x[0];
  int64_t i = 0;
  for (; i + F::lanes <= n; i += F::lanes) top = max(top, F::load(x + i));
  for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
  if (top.max() > largest) largest = top.max();
  *best = largest;
  for (i = 0; i < n && x[i] != largest; i++) {
  }
  *where = i < n ? i : 0;
}

// The rows whose value + scale * margin reaches a mark, in order: few of many, so a register without any is passed over.
static int64_t reaching(const float* value, const float* margin, float scale, int64_t n, float mark, int32_t first, int32_t* rows) {
  int64_t count = 0;
  auto visit = [&](const float* v, const float* m, int64_t at, uint32_t wanted) {
    uint32_t bits = wanted & not_below(fma(F::load(m), F::set1(scale), F::load(v)), F::set1(mark));
    for (; bits; bits &= bits - 1) rows[count++] = first + static_cast<int32_t>(at) + __builtin_ctz(bits);
  };
  int64_t at = 0;
  for (; at + F::lanes <= n; at += F::lanes) visit(value + at, margin + at, at, ~0u);
  if (at < n) {
    float v[F::lanes] = {}, m[F::lanes] = {};
    std::copy(value + at, value + n, v);
    std::copy(margin + at, margin + n, m);
    visit(v, m, at, (1u << (n - at)) - 1);
  }
  return count;
}

extern const Kernels table;
const Kernels table = {
    SHORTLIST_ISA_NAME, F::lanes,   quantize,  dot_range, dot_list,         dot_upper,     dot_upper_list, gemm,   dot_codes, axpy_row,
    axpy_list,
    rms_norm,           gated_silu, gated_gelu, rope_half, add,              attend<uint16_t>, attend<float>, store_f16, argmax, reaching,
    dot_channels,
    float_tile, float_dots,
};

}  // namespace shortlist::SHORTLIST_ISA_NAMESPACE
