// Products of rows with vectors: all rows, rows of a list, and 8-bit rows from their upper plane. Written once against F and
// BlockDot of the including instruction set. Included by kernels.inl.

static void quantize(const float* x, int padded, int8_t* q, float* d32, float* d16, float* s32, float* s16, float* l1, float* n32) {
  for (int g = 0; g < padded / 32; g++) {
    const float* p = x + g * 32;
    F top = F::zero();
    for (int i = 0; i < 32; i += F::lanes) top = max(top, abs(F::load(p + i)));
    const float largest = top.max(), d = largest / 127.0f, inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;
    float sum[2];  // sums of integers below 2^24: exact in floats
    F magnitude = F::zero();
    for (int half = 0; half < 2; half++) {
      F total = F::zero();
      for (int i = half * 16; i < half * 16 + 16; i += F::lanes) {
        const F code = round(F::load(p + i) * F::set1(inverse));
        store_int8(code, q + g * 32 + i);
        total = total + code;
        magnitude = magnitude + abs(code);
      }
      sum[half] = total.sum();
    }
    // Codes are integers: what is not a number must show in their scale. The difference is 0, or not a number either.
    const float all = magnitude.sum();
    d32[g] = d16[2 * g] = d16[2 * g + 1] = d + (all - all);
    s16[2 * g] = d * sum[0];
    s16[2 * g + 1] = d * sum[1];
    n32[g] = sum[0] + sum[1];
    s32[g] = d * n32[g];
    l1[g] = d * all;
  }
}

// Visits a row's groups: vector(g, keep) for lanes starting at g, of which the last `keep` are new (the last register
// overlaps the one before rather than leaving a remainder), or scalar(g) where a row has fewer groups than lanes.
template <class Vector, class Scalar>
static SHORTLIST_INLINE void each_group(int groups, Vector vector, Scalar scalar) {
  if (groups < F::lanes) {
    for (int g = 0; g < groups; g++) scalar(g);
    return;
  }
  int g = 0;
  for (; g + F::lanes <= groups; g += F::lanes) vector(g, F::lanes);
  if (g < groups) vector(groups - F::lanes, groups - g);
}

// The sum of the integer products of one row, block(dot, b) for every block of columns. Two chains of additions, because
// one would wait for itself.
template <class Block>
static SHORTLIST_INLINE F dot_blocks(int blocks, size_t row_bytes, const uint8_t* next, Block block) {
  BlockDot even, odd;
  int b = 0;
  // Every cache line of a row is prefetched, as one that is left out costs a wait for memory, and the nibbles' lines one by
  // one, as a burst of them would block the loads.
  fetch(next + blocks / 2 * 64, next + row_bytes);
  for (; b + 2 <= blocks; b += 2) {
    __builtin_prefetch(next + b * 32);
    block(even, b);
    block(odd, b + 1);
  }
  if (b < blocks) block(even, b);
  return even.total() + odd.total();
}

// Rows are computed a strip at a time and each step for the whole strip: within one row every step waits for the one
// before, and the processor cannot look far enough ahead to fill the gaps with the next row. A row's own arithmetic is
// the same wherever in a strip it stands.
constexpr int kStrip = 8;
constexpr int kComb = kMaxColumns / 16;  // floats for the combined scales of a strip: enough for the widest row

// Rows to a strip: what one strip reads must be well within the distance of the prefetch.
static inline int strip_rows(const RowsView& m) {
  const size_t fit = kAhead / 2 / m.primary_bytes;
  return fit < 1 ? 1 : fit < kStrip ? static_cast<int>(fit) : kStrip;
}

// out[i] = row(i) . x for n <= strip_rows() rows; next(i) is fetched meanwhile.
template <int id, class Row, class Following>
static SHORTLIST_INLINE void dot_strip(const RowsView& m, const Batch& x, Row row, Following next, int n, float* comb, float* out) {
  constexpr Format f = kFormats[id];
  constexpr int group = f.group, per_block = kBlock / group, low_bytes = kBlock * f.low_bits() / 8;
  const int groups = m.padded / group, blocks = m.padded / kBlock;
  const float* d = group == 32 ? x.d32 : x.d16;
  const float* sums = group == 32 ? x.s32 : x.s16;
  const int8_t* q = x.q;
  constexpr float offset = f.minimum ? 1.0f : static_cast<float>(-f.offset());

  // A scale times that of the query multiplies the integer sum of its group; the offset (times the scale) or the minimum
  // multiplies the sum of the query's codes.
  F total[kStrip];
  float narrow[kStrip];
  for (int i = 0; i < n; i++) {
    const Scales scales = row_scales(m, m.row(row(i)));
    float* combined = comb + i * groups;
    F correction = F::zero();
    float rest = 0.0f;
    each_group(
        groups,
        [&](int g, int keep) {
          const F scale = scales_of<id, F>(scales, g);
          (scale * F::load(d + g)).store(combined + g);
          if constexpr (offset != 0.0f) correction = fma(bases_of<id, F>(scales, g, scale).last(keep), F::load(sums + g), correction);
        },
        [&](int g) {
          const float scale = scale_at(f, scales, g);
          combined[g] = scale * d[g];
          rest += (f.minimum ? minimum_at(f, scales, g) : scale) * sums[g];
        });
    total[i] = correction * F::set1(offset);
    narrow[i] = rest * offset;
  }
  for (int i = 0; i < n; i++) {
    const uint8_t* low = m.row(row(i));
    const uint8_t* plane = low + m.low_bytes();
    const uint8_t* second = plane + m.padded / 8;
    const float* combined = comb + i * groups;
    total[i] = total[i] + dot_blocks(blocks, m.primary_bytes, next(i), [&](BlockDot& dot, int b) __attribute__((always_inline)) {
      dot.template block<id>(low + b * low_bytes, plane + b * 8, second + b * 8, q + b * kBlock, combined + b * per_block);
    });
  }
  sum_each(total, narrow, n, out);
}

// out[t * stride] = row . x_t of a row of floats.
template <class T, F (*load)(const T*), int tokens>
static void dot_floats(const T* w, const Batch& x, float* out, size_t stride) {
  const size_t columns = static_cast<size_t>(x.padded);
  F a[tokens], b[tokens];
  for (int t = 0; t < tokens; t++) a[t] = b[t] = F::zero();
  for (int i = 0; i < x.padded; i += 2 * F::lanes) {
    __builtin_prefetch(reinterpret_cast<const char*>(w + i) + kAhead);
    const F w0 = load(w + i), w1 = load(w + i + F::lanes);
    for (int t = 0; t < tokens; t++) {
      const float* p = x.x + static_cast<size_t>(t) * columns + i;
      a[t] = fma(w0, F::load(p), a[t]);
      b[t] = fma(w1, F::load(p + F::lanes), b[t]);
    }
  }
  for (int t = 0; t < tokens; t++) out[static_cast<size_t>(t) * stride] = (a[t] + b[t]).sum();
}

#include "kernels/tiles.inl"
#include "kernels/strips.inl"

// out[t * stride + i] = row(i) . x_t for i in [0, count), with the format's loop resolved once outside the loop over rows. A strip
// of rows meets all tokens before the next one is read.
template <class Row, class Following>
static void dot_rows(const RowsView& m, const Batch& x, Row row, Following next, int64_t count, float* out, size_t stride) {
  float comb[kComb];
  auto floats = [&](auto dot) {
    for (int64_t i = 0; i < count; i++)
      token_blocks(x.tokens, [&](auto tokens, int first) {
        dot(m.row(row(i)), x.from(first), tokens, out + static_cast<size_t>(first) * stride + i);
      });
  };
  auto quantized = [&](auto id) {
    const int strip = strip_rows(m);
    for (int64_t at = 0; at < count; at += strip) {
      const int n = count - at < strip ? static_cast<int>(count - at) : strip;
      for (int t = 0; t < x.tokens; t++)
        dot_strip<decltype(id)::value>(
            m, x.from(t), [&](int i) { return row(at + i); }, [&](int i) { return next(at + i); }, n, comb,
                out + static_cast<size_t>(t) * stride + at);
    }
  };
  switch (m.format.kind) {
    case Kind::F32:
      return floats([stride](const uint8_t* p, const Batch& some, auto tokens, float* to) {
        dot_floats<float, F::load, decltype(tokens)::value>(reinterpret_cast<const float*>(p), some, to, stride);
      });
    case Kind::F16:
      return floats([stride](const uint8_t* p, const Batch& some, auto tokens, float* to) {
        dot_floats<uint16_t, F::load_f16, decltype(tokens)::value>(reinterpret_cast<const uint16_t*>(p), some, to, stride);
      });
    case Kind::BF16:
      return floats([stride](const uint8_t* p, const Batch& some, auto tokens, float* to) {
        dot_floats<uint16_t, F::load_bf16, decltype(tokens)::value>(reinterpret_cast<const uint16_t*>(p), some, to, stride);
      });
    case Kind::Quantized:
      return with_format(m.format, [&](auto id) {
        if constexpr (decltype(id)::value != kQ8) quantized(id);  // those are strips.inl's
      });
  }
}

static bool in_planes(const RowsView& m) { return m.format.id == kQ8; }

// out[t * stride + r - begin] = row r . x_t for rows [begin, end). What a token gets does not depend on the others.
static void gemm(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* out, size_t stride) {
  if (m.tiled) return dot_tiled_range(m, x, begin, end, out, stride);
  auto row = [begin](int64_t i) { return begin + i; };
  if (in_planes(m)) return dot_rows8(m, x, row, end - begin, m.rows - begin, out, stride);
  auto next = [&](int64_t i) { return m.row(begin + i) + kAhead; };
  dot_rows(m, x, row, next, end - begin, out, stride);
}

static void dot_range(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* out) { gemm(m, x, begin, end, out, 0); }

// Rows picked from a list: each fetches the one that comes some places later.
struct Listed {
  const RowsView& m;
  const int32_t* indices;
  int64_t count, ahead;

  int64_t operator()(int64_t i) const { return indices[i]; }
  int64_t later(int64_t i) const { return indices[i + ahead < count ? i + ahead : count - 1]; }
  void fetch_first(bool lower) const {
    for (int64_t i = 0; i < count && i < ahead; i++) {
      fetch(m.row(indices[i]), m.row(indices[i]) + m.primary_bytes);
      if (lower) fetch(m.lower(indices[i]), m.lower(indices[i]) + m.secondary_bytes);
    }
  }
};

static void dot_list(const RowsView& m, const Batch& x, const int32_t* indices, int64_t count, float* out) {
  const Listed listed{m, indices, count, in_planes(m) ? kStripRows : 2 * strip_rows(m)};
  listed.fetch_first(in_planes(m));
  if (in_planes(m)) return dot_rows8(m, x, listed, count, count, out, 0);
  auto next = [&](int64_t i) { return m.row(listed.later(i)); };
  dot_rows(m, x, listed, next, count, out, 0);
}

static void dot_upper(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* middle, float* radius, size_t stride) {
  upper_rows8(m, x, [begin](int64_t i) { return begin + i; }, end - begin, m.rows - begin, middle, radius, stride);
}

static void dot_upper_list(const RowsView& m, const Batch& x, const int32_t* indices, int64_t count, float* middle, float* radius) {
  const Listed listed{m, indices, count, kStripRows};
  listed.fetch_first(false);
  upper_rows8(m, x, listed, count, count, middle, radius, 0);
}
