// Every kernel, written once against F (float lanes), BlockDot and TileDot of the including instruction set.
// Included by kernels_*.cpp, which defines SHORTLIST_ISA_NAMESPACE; no include guard on purpose.
#include <cmath>
#include <cstring>

#include "half.hpp"

namespace shortlist::SHORTLIST_ISA_NAMESPACE {

// Software prefetch, in bytes ahead of the row being read. Rows are read a strip at a time, scales first, so it must be
// more than a strip; 4-10 KB measured alike, 3 KB and none slower.
constexpr int kAhead = 8192;

static inline void fetch(const uint8_t* from, const uint8_t* to) {
  for (; from < to; from += 64) __builtin_prefetch(from);
}

// What is fetched while a row is computed: what lies kAhead behind it, or the row that comes some places later in a list.
struct Next {
  const uint8_t *row, *lower;
};

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

// ---- one vector -------------------------------------------------------------------------------------------------

static void quantize(const float* x, int padded, int8_t* q, float* d32, float* d16, float* s32, float* s16, float* l1) {
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
    d32[g] = d16[2 * g] = d16[2 * g + 1] = d;
    s16[2 * g] = d * sum[0];
    s16[2 * g + 1] = d * sum[1];
    s32[g] = d * (sum[0] + sum[1]);
    l1[g] = d * magnitude.sum();
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
static SHORTLIST_INLINE F dot_blocks(int blocks, size_t row_bytes, Next next, Block block) {
  BlockDot even, odd;
  int b = 0;
  // Every cache line of a row is prefetched, as one that is left out costs a wait for memory, and the nibbles' lines one by
  // one, as a burst of them would block the loads.
  fetch(next.row + blocks / 2 * 64, next.row + row_bytes);
  if (next.lower && blocks % 2) __builtin_prefetch(next.lower + blocks / 2 * 64);
  for (; b + 2 <= blocks; b += 2) {
    __builtin_prefetch(next.row + b * 32);
    if (next.lower) __builtin_prefetch(next.lower + b * 32);
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
template <int bits, int group, bool minimum, class Row, class Following>
static SHORTLIST_INLINE void dot_strip(const RowsView& m, const Batch& x, Row row, Following next, int n, float* comb, float* out) {
  const int groups = m.padded / group, blocks = m.padded / kBlock;
  const size_t planes = m.planes_bytes();
  const float* d = group == 32 ? x.d32 : x.d16;
  const float* sums = group == 32 ? x.s32 : x.s16;
  const int8_t* q = x.q;
  constexpr float offset = minimum ? 1.0f : static_cast<float>(-(1 << (bits - 1)));
  constexpr int per_block = kBlock / group;

  // A scale times that of the query multiplies the integer sum of its group; the offset (times the scale) or the minimum
  // multiplies the sum of the query's codes.
  F total[kStrip];
  float narrow[kStrip];
  for (int i = 0; i < n; i++) {
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(m.row(row(i)) + planes);
    float* combined = comb + i * groups;
    F correction = F::zero();
    float rest = 0.0f;
    each_group(
        groups,
        [&](int g, int keep) {
          const F scale = F::load_f16(scales + g);
          (scale * F::load(d + g)).store(combined + g);
          correction = fma((minimum ? F::load_f16(scales + groups + g) : scale).last(keep), F::load(sums + g), correction);
        },
        [&](int g) {
          const float scale = F::half(scales[g]);
          combined[g] = scale * d[g];
          rest += (minimum ? F::half(scales[groups + g]) : scale) * sums[g];
        });
    total[i] = correction * F::set1(offset);
    narrow[i] = rest * offset;
  }
  for (int i = 0; i < n; i++) {
    const uint8_t* nibbles = m.row(row(i));
    const uint8_t* plane4 = nibbles + m.padded / 2;
    const uint8_t* plane5 = plane4 + m.padded / 8;
    const uint8_t* lower = bits == 8 ? m.lower(row(i)) : nullptr;
    const float* combined = comb + i * groups;
    total[i] = total[i] + dot_blocks(blocks, m.primary_bytes, next(i), [&](BlockDot& dot, int b) __attribute__((always_inline)) {
      if constexpr (bits == 8) {
        dot.template block8<true>(nibbles + b * 32, lower + b * 32, q + b * kBlock, combined + b * per_block);
      } else {
        dot.template block<bits, group>(nibbles + b * 32, plane4 + b * 8, plane5 + b * 8, q + b * kBlock, combined + b * per_block);
      }
    });
  }
  sum_each(total, narrow, n, out);
}

template <F (*load)(const uint16_t*)>
static float dot_float16(const uint16_t* w, const float* x, int n) {
  F a = F::zero(), b = F::zero();
  for (int i = 0; i < n; i += 2 * F::lanes) {
    __builtin_prefetch(reinterpret_cast<const char*>(w + i) + kAhead);
    a = fma(load(w + i), F::load(x + i), a);
    b = fma(load(w + i + F::lanes), F::load(x + i + F::lanes), b);
  }
  return (a + b).sum();
}
static float dot_float32(const float* w, const float* x, int n) {
  F a = F::zero(), b = F::zero();
  for (int i = 0; i < n; i += 2 * F::lanes) {
    __builtin_prefetch(reinterpret_cast<const char*>(w + i) + kAhead);
    a = fma(F::load(w + i), F::load(x + i), a);
    b = fma(F::load(w + i + F::lanes), F::load(x + i + F::lanes), b);
  }
  return (a + b).sum();
}

// out[i] = row(i) . x for i in [0, count), with the format's loop resolved once outside the loop over rows.
template <class Row, class Following>
static void dot_rows(const RowsView& m, const Batch& x, Row row, Following next, int64_t count, float* out) {
  float comb[kComb];
  auto floats = [&](auto dot) {
    for (int64_t i = 0; i < count; i++) out[i] = dot(m.row(row(i)));
  };
  auto quantized = [&](auto bits, auto group, auto minimum) {
    const int strip = strip_rows(m);
    for (int64_t at = 0; at < count; at += strip) {
      const int n = count - at < strip ? static_cast<int>(count - at) : strip;
      dot_strip<decltype(bits)::value, decltype(group)::value, decltype(minimum)::value>(
          m, x, [&](int i) { return row(at + i); }, [&](int i) { return next(at + i); }, n, comb, out + at);
    }
  };
  using std::integral_constant;
  integral_constant<int, 16> g16;
  integral_constant<int, 32> g32;
  std::true_type with;
  std::false_type without;
  switch (m.format.kind) {
    case Kind::F32:
      return floats([&](const uint8_t* p) { return dot_float32(reinterpret_cast<const float*>(p), x.x, m.padded); });
    case Kind::F16:
      return floats([&](const uint8_t* p) { return dot_float16<F::load_f16>(reinterpret_cast<const uint16_t*>(p), x.x, m.padded); });
    case Kind::BF16:
      return floats([&](const uint8_t* p) { return dot_float16<F::load_bf16>(reinterpret_cast<const uint16_t*>(p), x.x, m.padded); });
    case Kind::Quantized:
      switch (m.format.bits) {
        case 4: return m.format.minimum ? quantized(integral_constant<int, 4>(), g32, with) : quantized(integral_constant<int, 4>(), g32, without);
        case 5: return m.format.minimum ? quantized(integral_constant<int, 5>(), g32, with) : quantized(integral_constant<int, 5>(), g32, without);
        case 6: return quantized(integral_constant<int, 6>(), g16, without);
        case 8: return quantized(integral_constant<int, 8>(), g32, without);
      }
  }
}

#include "tiles.inl"

static void dot_range(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* out) {
  if (m.tiled) return dot_tiled_range(m, x, begin, end, out);
  auto row = [begin](int64_t i) { return begin + i; };
  auto next = [&](int64_t i) { return Next{m.row(begin + i) + kAhead, m.secondary ? m.lower(begin + i) + kAhead : nullptr}; };
  dot_rows(m, x, row, next, end - begin, out);
}

static void dot_list(const RowsView& m, const Batch& x, const int32_t* indices, int64_t count, float* out) {
  const int64_t ahead = 2 * strip_rows(m);
  auto row = [indices](int64_t i) { return static_cast<int64_t>(indices[i]); };
  auto next = [&](int64_t i) {
    const int64_t r = indices[i + ahead < count ? i + ahead : count - 1];
    return Next{m.row(r), m.secondary ? m.lower(r) : nullptr};
  };
  for (int64_t i = 0; i < count && i < ahead; i++) {
    fetch(m.row(row(i)), m.row(row(i)) + m.primary_bytes);
    fetch(m.lower(row(i)), m.lower(row(i)) + m.secondary_bytes);
  }
  dot_rows(m, x, row, next, count, out);
}

// Why the radius always holds. With u = 2^-24, E = sum_g |scale_g| d_g sum|q| and real arithmetic, the lower nibbles
// (0 to 15, 7.5 + [-7.5, 7.5]) move the value by at most 7.5 E. Rounding: both the dense value and the middle are sums of
// terms whose magnitudes add up to at most (255 + 128) E, each term passing through at most n = padded / 64 + padded / 256
// + 16 roundings (its block's fma chain or its groups' chain, the reduction over lanes, scale products and the last add), so
// each is off by at most 1.01 n u 383 E. E itself is computed with relative error below n u. Together below
// (7.5 + 800 n u) E; n is taken twice for good measure. The slack covers underflow, and is infinite where a sum could overflow.
static void dot_upper(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* middle, float* radius) {
  float comb[kComb];
  const int groups = m.padded / 32, blocks = m.padded / kBlock, strip = strip_rows(m);
  const float roundings = static_cast<float>(blocks + blocks / 4 + 16), reach = 7.5f + 800.0f * 2.0f * roundings * 5.9604645e-8f;
  constexpr float offset = 7.5f - 128.0f;
  const int8_t* q = x.q;
  float query_extent = 0.0f;
  for (int g = 0; g < groups; g++) query_extent += x.l1[g];
  const float slack = query_extent < 0x1p100f ? static_cast<float>(groups) * 0x1p-102f : INFINITY;
  for (int64_t at = begin; at < end; at += strip) {
    const int n = end - at < strip ? static_cast<int>(end - at) : strip;
    F total[kStrip], extent[kStrip];
    float narrow[kStrip], narrow_extent[kStrip];
    for (int i = 0; i < n; i++) {
      const uint16_t* scales = m.scales(at + i);
      float* combined = comb + i * groups;
      F fixed = F::zero(), reached = F::zero();
      float rest = 0.0f, rest_reached = 0.0f;
      each_group(
          groups,
          [&](int g, int keep) {
            const F scale = F::load_f16(scales + g), fresh = scale.last(keep);
            (scale * F::load(x.d32 + g)).store(combined + g);
            fixed = fma(fresh, F::load(x.s32 + g), fixed);
            reached = fma(abs(fresh), F::load(x.l1 + g), reached);
          },
          [&](int g) {
            const float scale = F::half(scales[g]);
            combined[g] = scale * x.d32[g];
            rest += scale * x.s32[g];
            rest_reached += std::fabs(scale) * x.l1[g];
          });
      total[i] = fixed * F::set1(offset);
      extent[i] = reached;
      narrow[i] = rest * offset;
      narrow_extent[i] = rest_reached;
    }
    for (int i = 0; i < n; i++) {
      const uint8_t* upper = m.row(at + i);
      const float* combined = comb + i * groups;
      total[i] = total[i] + dot_blocks(blocks, m.primary_bytes, {upper + kAhead, nullptr}, [&](BlockDot& dot, int b) __attribute__((always_inline)) {
        dot.template block8<false>(upper + b * 32, nullptr, q + b * kBlock, combined + b * 2);
      });
    }
    sum_each(total, narrow, n, middle + at - begin);
    sum_each(extent, narrow_extent, n, radius + at - begin);
    for (int i = 0; i < n; i++) radius[at - begin + i] = reach * radius[at - begin + i] + slack;
  }
}

// The rows whose value + scale * margin reaches a mark, in order: few of many, so whole registers are passed over first.
static int64_t reaching(const float* value, const float* margin, float scale, int64_t n, float mark, int32_t first, int32_t* rows) {
  constexpr int strip = 4 * F::lanes;
  int64_t count = 0, i = 0;
  auto one = [&](int64_t at) {
    if (!(value[at] + scale * margin[at] < mark)) rows[count++] = first + static_cast<int32_t>(at);
  };
  for (; i + strip <= n; i += strip) {
    F top = fma(F::load(margin + i), F::set1(scale), F::load(value + i));
    for (int k = F::lanes; k < strip; k += F::lanes) top = max(top, fma(F::load(margin + i + k), F::set1(scale), F::load(value + i + k)));
    if (!(top.max() < mark))
      for (int64_t at = i; at < i + strip; at++) one(at);
  }
  for (; i < n; i++) one(i);
  return count;
}

// ---- many vectors -----------------------------------------------------------------------------------------------

// Eight bits to eight bytes of 0 or 1.
static inline uint64_t spread_byte(uint8_t bits) {
  uint64_t one_each = bits * 0x0101010101010101ull & 0x8040201008040201ull;
  return (one_each + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull;
}

// The codes of one row as bytes; 8-bit rows give their upper nibbles to `codes` and their lower ones to `low`.
static void unpack_codes(const RowsView& m, int64_t r, uint8_t* codes, uint8_t* low) {
  auto nibbles = [&](const uint8_t* from, uint8_t* to) {
    for (int b = 0; b < m.padded / kBlock; b++)
      for (int j = 0; j < 32; j++) {
        to[b * 64 + j] = from[b * 32 + j] & 15;
        to[b * 64 + 32 + j] = from[b * 32 + j] >> 4;
      }
  };
  nibbles(m.row(r), codes);
  if (m.format.bits == 8) return nibbles(m.lower(r), low);
  for (int plane = 0; plane < m.extra_planes(); plane++) {
    const uint8_t* bits = m.row(r) + m.padded / 2 + static_cast<size_t>(plane) * m.padded / 8;
    for (int i = 0; i < m.padded / 8; i++) {
      uint64_t word;
      std::memcpy(&word, codes + i * 8, 8);
      word |= spread_byte(bits[i]) << (4 + plane);
      std::memcpy(codes + i * 8, &word, 8);
    }
  }
}

// A tile is TileDot::rows rows side by side: codes [padded / 4][rows][4], scales and bases [groups][rows].
struct Tile {
  uint8_t *codes, *low, *row, *row_low;
  float *scales, *bases, *floats;

  Tile(uint8_t* scratch, int padded) {
    constexpr int R = TileDot::rows;
    codes = scratch;
    low = codes + static_cast<size_t>(padded) * R;
    floats = reinterpret_cast<float*>(scratch);
    scales = reinterpret_cast<float*>(low + static_cast<size_t>(padded) * R);
    bases = scales + static_cast<size_t>(padded) / 16 * R;
    row = reinterpret_cast<uint8_t*>(bases + static_cast<size_t>(padded) / 16 * R);
    row_low = row + padded;
  }

  void fill_quantized(const RowsView& m, int64_t begin, int count) {
    constexpr int R = TileDot::rows;
    const int groups = m.groups();
    for (int r = 0; r < R; r++) {
      int64_t source = begin + (r < count ? r : count - 1);  // past the end: any valid row, its results are not stored
      unpack_codes(m, source, row, row_low);
      if (m.format.bits == 8 && !TileDot::split8)
        for (int i = 0; i < m.padded; i++) row[i] = static_cast<uint8_t>(row[i] << 4 | row_low[i]);
      auto scatter = [&](const uint8_t* from, uint8_t* to) {
        for (int k = 0; k < m.padded / 4; k++) std::memcpy(to + (static_cast<size_t>(k) * R + r) * 4, from + k * 4, 4);
      };
      scatter(row, codes);
      if (m.format.bits == 8 && TileDot::split8) scatter(row_low, low);
      const uint16_t *s = m.scales(source), *minima = m.minima(source);
      for (int g = 0; g < groups; g++) {
        float scale = half_to_float(s[g]);
        scales[g * R + r] = scale;
        bases[g * R + r] = m.format.minimum ? half_to_float(minima[g]) : -scale * static_cast<float>(m.format.offset());
      }
    }
  }

  // From rows that are tiled already: whole steps are copied. `begin` is the first row of a tile.
  void fill_tiled(const RowsView& m, int64_t begin, int count) {
    constexpr int R = TileDot::rows;
    const int per_block = kBlock / m.format.group;
    for (int lane = 0; lane < R; lane += kTileRows) {
      const uint8_t* block = m.tile(begin + (lane < count ? lane : 0));  // past the end: any tile, its results are not stored
      for (int b = 0; b < m.padded / kBlock; b++, block += m.block_bytes()) {
        for (int step = 0; step < 16; step++) {
          uint8_t step_codes[32];
          slab_codes(block + m.header_bytes() + static_cast<size_t>(step / 8) * m.slab_bytes(), m.format.bits, step % 8, step_codes);
          const size_t at = (static_cast<size_t>(b * 16 + step) * R + static_cast<size_t>(lane)) * 4;
          const bool split = m.format.bits == 8 && TileDot::split8;
          for (size_t j = 0; j < 32; j++) codes[at + j] = split ? step_codes[j] >> 4 : step_codes[j];
          if (split)
            for (size_t j = 0; j < 32; j++) low[at + j] = step_codes[j] & 15;
        }
        const uint16_t* scale = reinterpret_cast<const uint16_t*>(block);
        for (int i = 0; i < per_block * kTileRows; i++) {
          const int at = (b * per_block + i / kTileRows) * R + lane + i % kTileRows;
          scales[at] = half_to_float(scale[i]);
          bases[at] = m.format.minimum ? half_to_float(scale[per_block * kTileRows + i]) : -scales[at] * static_cast<float>(m.format.offset());
        }
      }
    }
  }

  void fill_floats(const RowsView& m, int64_t begin, int count) {
    constexpr int R = TileDot::rows;
    for (int r = 0; r < R; r++) {
      int64_t source = begin + (r < count ? r : count - 1);
      const uint8_t* p = m.row(source);
      for (int k = 0; k < m.padded; k++) {
        float value;
        if (m.format.kind == Kind::F32)
          std::memcpy(&value, p + k * 4, 4);
        else {
          uint16_t h;
          std::memcpy(&h, p + k * 2, 2);
          value = m.format.kind == Kind::F16 ? half_to_float(h) : bfloat_to_float(h);
        }
        floats[static_cast<size_t>(k) * R + r] = value;
      }
    }
  }
};

template <int tokens>
static void store_tile(const F* sums, int count, float* out, size_t stride) {
  for (int t = 0; t < tokens; t++) {
    if (count == TileDot::rows)
      sums[t].store(out + t * stride);
    else {
      float part[TileDot::rows];
      sums[t].store(part);
      std::memcpy(out + t * stride, part, sizeof(float) * static_cast<size_t>(count));
    }
  }
}

template <int tokens, int bits, int group>
static void tile_quantized(const Tile& tile, const Batch& x, int first, int count, float* out, size_t stride) {
  constexpr int R = TileDot::rows, steps = TileDot::steps(bits == 8 && TileDot::split8 ? 4 : bits), repeats = group / 4 / steps;
  const int groups = x.padded / group;
  const int8_t* q = x.q + static_cast<size_t>(first) * x.padded;
  const float* d = (group == 32 ? x.d32 : x.d16) + static_cast<size_t>(first) * groups;
  const float* s = (group == 32 ? x.s32 : x.s16) + static_cast<size_t>(first) * groups;
  F total[tokens];
  for (F& t : total) t = F::zero();
  for (int g = 0; g < groups; g++) {
    typename TileDot::Sum sum[tokens];
    for (auto& t : sum) t = TileDot::zero();
    for (int i = 0; i < repeats; i++) {
      size_t column = static_cast<size_t>(g) * group + static_cast<size_t>(i) * steps * 4;
      if constexpr (bits == 8 && TileDot::split8) {
        TileDot::template accumulate<steps, tokens>(tile.codes + column * R, q + column, x.padded, 16, sum);
        TileDot::template accumulate<steps, tokens>(tile.low + column * R, q + column, x.padded, 1, sum);
      } else {
        TileDot::template accumulate<steps, tokens>(tile.codes + column * R, q + column, x.padded, 1, sum);
      }
    }
    F scale = F::load(tile.scales + g * R), base = F::load(tile.bases + g * R);
    for (int t = 0; t < tokens; t++) {
      total[t] = fma(TileDot::to_float(sum[t]) * F::set1(d[t * groups + g]), scale, total[t]);
      total[t] = fma(base, F::set1(s[t * groups + g]), total[t]);
    }
  }
  store_tile<tokens>(total, count, out, stride);
}

template <int tokens>
static void tile_floats(const Tile& tile, const Batch& x, int first, int count, float* out, size_t stride) {
  const float* p = x.x + static_cast<size_t>(first) * x.padded;
  F total[tokens];
  for (F& t : total) t = F::zero();
  for (int k = 0; k < x.padded; k++) {
    F w = F::load(tile.floats + static_cast<size_t>(k) * TileDot::rows);
    for (int t = 0; t < tokens; t++) total[t] = fma(w, F::set1(p[static_cast<size_t>(t) * x.padded + k]), total[t]);
  }
  store_tile<tokens>(total, count, out, stride);
}

// Runs step(tokens, first) over the batch in blocks of 8, 4, 2 and 1 tokens.
template <class Step>
static void token_blocks(int tokens, Step step) {
  int t = 0;
  for (; t + 8 <= tokens; t += 8) step(std::integral_constant<int, 8>(), t);
  if (t + 4 <= tokens) step(std::integral_constant<int, 4>(), t), t += 4;
  if (t + 2 <= tokens) step(std::integral_constant<int, 2>(), t), t += 2;
  if (t < tokens) step(std::integral_constant<int, 1>(), t);
}

static void gemm(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* out, size_t stride, uint8_t* scratch) {
  Tile tile(scratch, m.padded);
  for (int64_t r = begin; r < end; r += TileDot::rows) {
    const int count = end - r < TileDot::rows ? static_cast<int>(end - r) : TileDot::rows;
    auto quantized = [&](auto bits, auto group) {
      token_blocks(x.tokens, [&](auto tokens, int first) {
        tile_quantized<decltype(tokens)::value, decltype(bits)::value, decltype(group)::value>(
            tile, x, first, count, out + static_cast<size_t>(first) * stride + r, stride);
      });
    };
    if (m.format.kind != Kind::Quantized) {
      tile.fill_floats(m, r, count);
      token_blocks(x.tokens, [&](auto tokens, int first) {
        tile_floats<decltype(tokens)::value>(tile, x, first, count, out + static_cast<size_t>(first) * stride + r, stride);
      });
      continue;
    }
    if (m.tiled)
      tile.fill_tiled(m, r, count);
    else
      tile.fill_quantized(m, r, count);
    switch (m.format.bits) {
      case 4: quantized(std::integral_constant<int, 4>(), std::integral_constant<int, 32>()); break;
      case 5: quantized(std::integral_constant<int, 5>(), std::integral_constant<int, 32>()); break;
      case 6: quantized(std::integral_constant<int, 6>(), std::integral_constant<int, 16>()); break;
      case 8: quantized(std::integral_constant<int, 8>(), std::integral_constant<int, 32>()); break;
    }
  }
}

static void axpy_row(const RowsView& m, int64_t row, float a, float* y) {
  float values[kBlock];
  for (int b = 0; b * kBlock < m.cols; b++) {
    const int n = m.cols - b * kBlock < kBlock ? m.cols - b * kBlock : kBlock;
    if (m.format.kind != Kind::Quantized) {
      for (int i = 0; i < n; i++) {
        const uint8_t* p = m.row(row) + static_cast<size_t>(b * kBlock + i) * (m.format.bits / 8);
        uint16_t h;
        std::memcpy(&h, p, 2);
        if (m.format.kind == Kind::F32)
          std::memcpy(values + i, p, 4);
        else
          values[i] = m.format.kind == Kind::F16 ? half_to_float(h) : bfloat_to_float(h);
      }
    } else if (m.tiled) {
      const uint8_t* block = m.tile(row) + static_cast<size_t>(b) * m.block_bytes();
      const int lane = static_cast<int>(row % kTileRows), per_block = kBlock / m.format.group;
      const uint16_t* scales = reinterpret_cast<const uint16_t*>(block) + lane;
      for (int i = 0; i < n; i++) {
        uint8_t codes[32];
        slab_codes(block + m.header_bytes() + static_cast<size_t>(i / 32) * m.slab_bytes(), m.format.bits, i % 32 / 4, codes);
        const int code = codes[lane * 4 + i % 4], g = i / m.format.group;
        const float scale = half_to_float(scales[g * kTileRows]);
        values[i] = m.format.minimum ? scale * static_cast<float>(code) + half_to_float(scales[(per_block + g) * kTileRows])
                                     : scale * static_cast<float>(code - m.format.offset());
      }
    } else {
      const uint8_t* nibbles = m.row(row) + b * 32;
      const uint8_t* extra = m.row(row) + m.padded / 2 + b * 8;
      const uint8_t* lower = m.format.bits == 8 ? m.lower(row) + b * 32 : nullptr;
      const uint16_t *scales = m.scales(row), *minima = m.minima(row);
      for (int i = 0; i < n; i++) {
        int shift = i < 32 ? 0 : 4, code = nibbles[i % 32] >> shift & 15;
        if (lower) code = code << 4 | (lower[i % 32] >> shift & 15);
        for (int plane = 0; plane < m.extra_planes(); plane++) code |= (extra[static_cast<size_t>(plane) * m.padded / 8 + i / 8] >> i % 8 & 1) << (4 + plane);
        const int g = (b * kBlock + i) / m.format.group;
        const float scale = half_to_float(scales[g]);
        values[i] = m.format.minimum ? scale * static_cast<float>(code) + half_to_float(minima[g])
                                     : scale * static_cast<float>(code - m.format.offset());
      }
    }
    for (int i = 0; i < n; i++) y[b * kBlock + i] += a * values[i];
  }
}

#include "axpy.inl"
#include "channels.inl"

// ---- the rest of a layer ----------------------------------------------------------------------------------------

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

static F load_any(const float* p) { return F::load(p); }
static F load_any(const uint16_t* p) { return F::load_f16(p); }
static float value_of(float x) { return x; }
static float value_of(uint16_t h) { return half_to_float(h); }

// heads is small (the group of one KV head), so each key and value is loaded and widened once for all of them.
template <class T, int heads>
static void attend_heads(const float* q, int dim, const T* k, const T* v, int64_t first, int64_t last, float scale, float* scores, float* out) {
  const int64_t count = last - first + 1;
  const int whole = dim / F::lanes * F::lanes;
  for (int64_t p = 0; p < count; p++) {
    const T* key = k + (first + p) * dim;
    F sum[heads];
    for (F& s : sum) s = F::zero();
    for (int i = 0; i < whole; i += F::lanes) {
      F key_lanes = load_any(key + i);
      for (int h = 0; h < heads; h++) sum[h] = fma(F::load(q + h * dim + i), key_lanes, sum[h]);
    }
    for (int h = 0; h < heads; h++) {
      float s = sum[h].sum();
      for (int i = whole; i < dim; i++) s += q[h * dim + i] * value_of(key[i]);
      scores[h * count + p] = s * scale;
    }
  }
  for (int h = 0; h < heads; h++) {
    float* s = scores + h * count;
    F top = F::set1(s[0]);
    float tail = s[0];
    each(static_cast<int>(count), [&](int i) { top = max(top, F::load(s + i)); }, [&](int i) { tail = s[i] > tail ? s[i] : tail; });
    const float largest = top.max() > tail ? top.max() : tail;
    F sum = F::zero();
    float rest = 0.0f;
    each(static_cast<int>(count), [&](int i) {
      F e = exp(F::load(s + i) - F::set1(largest));
      e.store(s + i);
      sum = sum + e;
    }, [&](int i) { rest += s[i] = std::exp(s[i] - largest); });
    const float inverse = 1.0f / (sum.sum() + rest);
    each(static_cast<int>(count), [&](int i) { (F::load(s + i) * F::set1(inverse)).store(s + i); }, [&](int i) { s[i] *= inverse; });
  }
  // The weighted sum of values, a strip of 4 registers at a time for all heads, so that it stays in registers.
  int i = 0;
  auto strip = [&](auto width) {
    constexpr int W = decltype(width)::value;
    for (; i + W * F::lanes <= whole; i += W * F::lanes) {
      F sum[heads][W];
      for (auto& row : sum)
        for (F& s : row) s = F::zero();
      for (int64_t p = 0; p < count; p++) {
        const T* value = v + (first + p) * dim + i;
        F lanes[W];
        for (int w = 0; w < W; w++) lanes[w] = load_any(value + w * F::lanes);
        for (int h = 0; h < heads; h++)
          for (int w = 0; w < W; w++) sum[h][w] = fma(F::set1(scores[h * count + p]), lanes[w], sum[h][w]);
      }
      for (int h = 0; h < heads; h++)
        for (int w = 0; w < W; w++) sum[h][w].store(out + h * dim + i + w * F::lanes);
    }
  };
  strip(std::integral_constant<int, heads >= 4 ? 2 : 4>());
  strip(std::integral_constant<int, 1>());
  for (; i < dim; i++)
    for (int h = 0; h < heads; h++) {
      float s = 0.0f;
      for (int64_t p = 0; p < count; p++) s += scores[h * count + p] * value_of(v[(first + p) * dim + i]);
      out[h * dim + i] = s;
    }
}

template <class T>
static void attend(const float* q, int heads, int dim, const T* k, const T* v, int64_t first, int64_t last, float scale, float* scores, float* out) {
  for (int h = 0; h < heads;) {
    const float* qh = q + h * dim;
    float* oh = out + h * dim;
    if (heads - h >= 4) attend_heads<T, 4>(qh, dim, k, v, first, last, scale, scores, oh), h += 4;
    else if (heads - h == 3) attend_heads<T, 3>(qh, dim, k, v, first, last, scale, scores, oh), h += 3;
    else if (heads - h == 2) attend_heads<T, 2>(qh, dim, k, v, first, last, scale, scores, oh), h += 2;
    else attend_heads<T, 1>(qh, dim, k, v, first, last, scale, scores, oh), h += 1;
  }
}

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

extern const Kernels table;
const Kernels table = {
    SHORTLIST_ISA_NAME, quantize,  dot_range, dot_list, dot_upper,         gemm,              axpy_row,  axpy_list, rms_norm, gated_silu,
    gated_gelu,         rope_half, add,       attend<uint16_t>, attend<float>, store_f16, argmax, reaching, dot_channels,
};

}  // namespace shortlist::SHORTLIST_ISA_NAMESPACE
