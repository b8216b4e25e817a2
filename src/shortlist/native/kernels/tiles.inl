// Products of tiled matrices (rows.hpp says where things lie), written once against SlabDot of the including instruction
// set, and how the other kernels look into a tile. Included by dots.inl.
//
// Several vectors go through a tile up to eight at a time, so that its codes are read and unpacked once for all. Each adds
// in the same order as if it were alone, so its values do not depend on which others there are.

// The codes of step k of a slab as bytes: to[4 r + i] is that of row r, column 4 k + i; unsigned, 8-bit ones too.
static SHORTLIST_INLINE void slab_codes(const uint8_t* slab, const Format& f, int k, uint8_t* to) {
  // A field of so many bits of each byte, as many steps to a register of 32 bytes as fit.
  auto field = [&](int at, int bits, int j) {
    const int steps = 8 / bits;
    return slab[(at + k / steps) * 32 + j] >> (k % steps * bits) & ((1 << bits) - 1);
  };
  for (int j = 0; j < 32; j++) {
    if (f.bits == 8)
      to[j] = slab[k * 32 + j] ^ 0x80;
    else
      to[j] = static_cast<uint8_t>(f.low_bits() == 2 ? field(0, 2, j) : slab[k % 4 * 32 + j] >> (k / 4 * 4) & 15);
    if (f.planes()) to[j] = static_cast<uint8_t>(to[j] | field(f.low_bits(), f.planes(), j) << f.low_bits());
  }
}

// The values of rows [row, row + 8), of which those in [begin, end) are wanted.
static SHORTLIST_INLINE void store_tile(SlabDot::Lanes values, int64_t row, int64_t begin, int64_t end, float* out) {
  if (row >= begin && end - row >= kTileRows) return values.store(out + row - begin);
  float part[kTileRows];
  values.store(part);
  for (int64_t r = row < begin ? begin : row; r < end && r < row + kTileRows; r++) out[r - begin] = part[r - row];
}

// The spans of a tile: `products` of each group, times scales and those of the queries, add up in `total`; offsets or minima
// multiply the sums of the queries' codes.
template <int id, int tokens>
static SHORTLIST_INLINE void dot_tile(const RowsView& m, const Batch& x, const uint8_t* tile, SlabDot::Lanes* total) {
  using Lanes = SlabDot::Lanes;
  constexpr Format f = kFormats[id];
  constexpr int group = f.group, per_span = f.span() / group, slab = 32 * f.bits, header = static_cast<int>(f.scale_bytes()) * kTileRows;
  constexpr int span = header + f.span() / 32 * slab;
  constexpr float offset = f.minimum ? 1.0f : f.bits == 8 ? 0.0f : static_cast<float>(-f.offset());
  constexpr bool together = tokens <= 2;  // more tokens have no registers left for corrections, which take a loop of their own
  const size_t groups = static_cast<size_t>(m.padded / group);
  const float* d = group == 32 ? x.d32 : x.d16;
  const float* sums = group == 32 ? x.s32 : x.s16;
  Lanes correction[tokens];
  for (int t = 0; t < tokens; t++) total[t] = correction[t] = Lanes::zero();
  auto of_query = [&](const float* values, int t, int s, int g) {
    return Lanes::set1(values[static_cast<size_t>(t) * groups + static_cast<size_t>(s * per_span + g)]);
  };
  auto correct = [&](const Scales& scales, int s, int g) __attribute__((always_inline)) {
    const Lanes base = tile_base<id, Lanes>(scales, g);
#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++) correction[t] = fma(base, of_query(sums, t, s, g), correction[t]);
  };
  const int spans = m.padded / f.span();
  const uint8_t* p = tile;
  for (int s = 0; s < spans; s++, p += span) {
    const Scales scales = tile_scales<id>(p);
    auto add = [&](int g, const Lanes* products) __attribute__((always_inline)) {
      const Lanes scale = tile_scale<id, Lanes>(scales, g);
#pragma GCC unroll 8
      for (int t = 0; t < tokens; t++) total[t] = fma(products[t], scale * of_query(d, t, s, g), total[t]);
      if constexpr (offset != 0.0f && together) correct(scales, s, g);
    };
    for (int i = 0; i < f.span() / 32; i++) {
      if (i % 2 == 0) {  // a share of the span's lines for each 64 columns: all at once they would block the loads
        constexpr int share = span / (f.span() / kBlock);
        for (int line = 0; line < share; line += 64) __builtin_prefetch(p + i / 2 * share + line + kAhead);
      }
      const uint8_t* codes = p + header + i * slab;
      const int8_t* q = x.q + s * f.span() + i * 32;
      const size_t stride = static_cast<size_t>(m.padded);
      Lanes products[tokens];
      if constexpr (group == 32) {
        SlabDot::sums<id, 0, 8, tokens>(codes, q, stride, products);
        add(i, products);
      } else {
        SlabDot::sums<id, 0, 4, tokens>(codes, q, stride, products);
        add(2 * i, products);
        SlabDot::sums<id, 4, 4, tokens>(codes, q, stride, products);
        add(2 * i + 1, products);
      }
    }
  }
  if constexpr (offset != 0.0f) {
    if constexpr (!together)
      for (int s = 0; s < spans; s++)
        for (int g = 0; g < per_span; g++) correct(tile_scales<id>(tile + static_cast<size_t>(s) * span), s, g);
    for (int t = 0; t < tokens; t++) total[t] = fma(correction[t], Lanes::set1(offset), total[t]);
  }
}

// Runs step(tokens, first) over a batch in blocks of 8, 4, 3, 2 and 1 tokens.
template <class Step>
static SHORTLIST_INLINE void token_blocks(int tokens, Step step) {
  int t = 0;
  for (; t + 8 <= tokens; t += 8) step(std::integral_constant<int, 8>(), t);
  if (t + 4 <= tokens) step(std::integral_constant<int, 4>(), t), t += 4;
  if (t + 3 == tokens) step(std::integral_constant<int, 3>(), t), t += 3;
  if (t + 2 <= tokens) step(std::integral_constant<int, 2>(), t), t += 2;
  if (t < tokens) step(std::integral_constant<int, 1>(), t);
}

// out[t * stride + i] = row begin + i . x_t.
template <int id>
static void dot_tiles(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* out, size_t stride) {
  for (int64_t row = begin / kTileRows * kTileRows; row < end; row += kTileRows)
    token_blocks(x.tokens, [&](auto block, int first) __attribute__((always_inline)) {
      constexpr int tokens = decltype(block)::value;
      SlabDot::Lanes values[tokens];
      dot_tile<id, tokens>(m, x.from(first), m.tile(row), values);
      for (int t = 0; t < tokens; t++) store_tile(values[t], row, begin, end, out + static_cast<size_t>(first + t) * stride);
    });
}

static void dot_tiled_range(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* out, size_t stride) {
  with_format(m.format, [&](auto id) { dot_tiles<decltype(id)::value>(m, x, begin, end, out, stride); });
}

// The coordinates of an estimate (codes.hpp): out[t * stride + i] = row begin + i . x_t.
static void dot_codes(const CodesView& m, const Batch& x, int64_t begin, int64_t end, float* out, size_t stride) {
  using Lanes = SlabDot::Lanes;
  const size_t groups = static_cast<size_t>(x.padded / kGroup);
  for (int64_t row = begin / kTileRows * kTileRows; row < end; row += kTileRows) {
    const uint8_t* tile = m.tiles + static_cast<size_t>(row / kTileRows) * m.tile_bytes();
    for (size_t line = 0; line < m.tile_bytes(); line += 64) __builtin_prefetch(tile + line + kAhead);
    token_blocks(x.tokens, [&](auto block, int first) __attribute__((always_inline)) {
      constexpr int tokens = decltype(block)::value;
      const Batch some = x.from(first);
      const uint8_t* p = tile;
      Lanes total[tokens], correction[tokens];
      for (int t = 0; t < tokens; t++) total[t] = correction[t] = Lanes::zero();
      auto add = [&](int g, const Lanes* products, bool centred) __attribute__((always_inline)) {
        const Lanes scale = Lanes::load_f16(reinterpret_cast<const uint16_t*>(p));
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++) {
          const size_t at = static_cast<size_t>(t) * groups + static_cast<size_t>(g);
          total[t] = fma(products[t], scale * Lanes::set1(some.d32[at]), total[t]);
          if (!centred) correction[t] = fma(scale, Lanes::set1(some.s32[at]), correction[t]);
        }
      };
      Lanes products[tokens];
      for (int g = 0; g < m.eights; g++, p += CodesView::kEight) {
        SlabDot::sums<kQ8, 0, 8, tokens>(p + CodesView::kScales, some.q + g * kGroup, static_cast<size_t>(x.padded), products);
        add(g, products, true);
      }
      for (int g = m.eights; g < m.eights + m.fours; g++, p += CodesView::kFour) {
        SlabDot::sums<kQ4, 0, 8, tokens>(p + CodesView::kScales, some.q + g * kGroup, static_cast<size_t>(x.padded), products);
        add(g, products, false);
      }
      for (int t = 0; t < tokens; t++)
        store_tile(fma(correction[t], Lanes::set1(-8.0f), total[t]), row, begin, end, out + static_cast<size_t>(first + t) * stride);
    });
  }
}
