// Products of tiled matrices (rows.hpp says where things lie), written once against SlabDot of the including instruction
// set, and how the other kernels look into a tile. Included by dots.inl.
//
// Several vectors go through a tile up to eight at a time, so that its codes are read and unpacked once for all. Each adds
// in the same order as if it were alone, so its values do not depend on which others there are.

// The codes of step k of a slab as bytes: to[4 r + i] is that of row r, column 4 k + i; unsigned, 8-bit ones too.
static SHORTLIST_INLINE void slab_codes(const uint8_t* slab, int bits, int k, uint8_t* to) {
  if (bits == 8) {
    for (int j = 0; j < 32; j++) to[j] = slab[k * 32 + j] ^ 0x80;
    return;
  }
  if (bits == 2) {
    for (int j = 0; j < 32; j++) to[j] = slab[k / 4 * 32 + j] >> (k % 4 * 2) & 3;
    return;
  }
  const int shift = k < 4 ? 0 : 4;
  for (int j = 0; j < 32; j++) to[j] = slab[k % 4 * 32 + j] >> shift & 15;
  if (bits == 5)
    for (int j = 0; j < 32; j++) to[j] = static_cast<uint8_t>(to[j] | (slab[128 + j] >> k & 1) << 4);
  if (bits == 6)
    for (int j = 0; j < 32; j++) to[j] = static_cast<uint8_t>(to[j] | (slab[128 + k / 4 * 32 + j] >> (k % 4 * 2) & 3) << 4);
}

// The values of rows [row, row + 8), of which those in [begin, end) are wanted.
static SHORTLIST_INLINE void store_tile(SlabDot::Lanes values, int64_t row, int64_t begin, int64_t end, float* out) {
  if (row >= begin && end - row >= kTileRows) return values.store(out + row - begin);
  float part[kTileRows];
  values.store(part);
  for (int64_t r = row < begin ? begin : row; r < end && r < row + kTileRows; r++) out[r - begin] = part[r - row];
}

// The blocks of a tile: `products` of each group, times scales and those of the queries, add up in `total`; offsets or minima
// multiply the sums of the queries' codes.
template <int bits, int group, bool minimum, int tokens>
static SHORTLIST_INLINE void dot_tile(const RowsView& m, const Batch& x, const uint8_t* tile, SlabDot::Lanes* total) {
  using Lanes = SlabDot::Lanes;
  constexpr int per_block = kBlock / group, header = per_block * kTileRows * 2 * (minimum ? 2 : 1), slab = 32 * bits, block = header + 2 * slab;
  constexpr float offset = minimum ? 1.0f : bits == 8 ? 0.0f : static_cast<float>(-(1 << (bits - 1)));
  constexpr bool together = tokens <= 2;  // more tokens have no registers left for corrections, which take a loop of their own
  const size_t groups = static_cast<size_t>(m.padded / group);
  const float* d = group == 32 ? x.d32 : x.d16;
  const float* sums = group == 32 ? x.s32 : x.s16;
  Lanes correction[tokens];
  for (int t = 0; t < tokens; t++) total[t] = correction[t] = Lanes::zero();
  auto of_query = [&](const float* values, int t, int b, int g) { return Lanes::set1(values[static_cast<size_t>(t) * groups + static_cast<size_t>(b * per_block + g)]); };
  auto correct = [&](const uint16_t* scales, int b, int g) __attribute__((always_inline)) {
    const Lanes base = Lanes::load_f16(scales + ((minimum ? per_block : 0) + g) * kTileRows);
#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++) correction[t] = fma(base, of_query(sums, t, b, g), correction[t]);
  };
  const uint8_t* p = tile;
  for (int b = 0; b < m.padded / kBlock; b++, p += block) {
    for (int line = 0; line < block; line += 64) __builtin_prefetch(p + line + kAhead);
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(p);
    auto add = [&](int g, const Lanes* products) __attribute__((always_inline)) {
      const Lanes scale = Lanes::load_f16(scales + g * kTileRows);
#pragma GCC unroll 8
      for (int t = 0; t < tokens; t++) total[t] = fma(products[t], scale * of_query(d, t, b, g), total[t]);
      if constexpr (offset != 0.0f && together) correct(scales, b, g);
    };
    for (int half = 0; half < 2; half++) {
      const uint8_t* codes = p + header + half * slab;
      const int8_t* q = x.q + b * kBlock + half * 32;
      const size_t stride = static_cast<size_t>(m.padded);
      Lanes products[tokens];
      if constexpr (group == 32) {
        SlabDot::sums<bits, 0, 8, tokens>(codes, q, stride, products);
        add(half, products);
      } else {
        SlabDot::sums<bits, 0, 4, tokens>(codes, q, stride, products);
        add(2 * half, products);
        SlabDot::sums<bits, 4, 4, tokens>(codes, q, stride, products);
        add(2 * half + 1, products);
      }
    }
  }
  if constexpr (offset != 0.0f) {
    if constexpr (!together)
      for (int b = 0; b < m.padded / kBlock; b++)
        for (int g = 0; g < per_block; g++) correct(reinterpret_cast<const uint16_t*>(tile + static_cast<size_t>(b) * block), b, g);
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
template <int bits, int group, bool minimum>
static void dot_tiles(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* out, size_t stride) {
  for (int64_t row = begin / kTileRows * kTileRows; row < end; row += kTileRows)
    token_blocks(x.tokens, [&](auto block, int first) __attribute__((always_inline)) {
      constexpr int tokens = decltype(block)::value;
      SlabDot::Lanes values[tokens];
      dot_tile<bits, group, minimum, tokens>(m, x.from(first), m.tile(row), values);
      for (int t = 0; t < tokens; t++) store_tile(values[t], row, begin, end, out + static_cast<size_t>(first + t) * stride);
    });
}

static void dot_tiled_range(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* out, size_t stride) {
  switch (m.format.bits) {
    case 2: return dot_tiles<2, 32, false>(m, x, begin, end, out, stride);
    case 4: return (m.format.minimum ? dot_tiles<4, 32, true> : dot_tiles<4, 32, false>)(m, x, begin, end, out, stride);
    case 5: return (m.format.minimum ? dot_tiles<5, 32, true> : dot_tiles<5, 32, false>)(m, x, begin, end, out, stride);
    case 6: return dot_tiles<6, 16, false>(m, x, begin, end, out, stride);
    case 8: return dot_tiles<8, 32, false>(m, x, begin, end, out, stride);
  }
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
        SlabDot::sums<8, 0, 8, tokens>(p + CodesView::kScales, some.q + g * kGroup, static_cast<size_t>(x.padded), products);
        add(g, products, true);
      }
      for (int g = m.eights; g < m.eights + m.fours; g++, p += CodesView::kFour) {
        SlabDot::sums<4, 0, 8, tokens>(p + CodesView::kScales, some.q + g * kGroup, static_cast<size_t>(x.padded), products);
        add(g, products, false);
      }
      for (int t = 0; t < tokens; t++)
        store_tile(fma(correction[t], Lanes::set1(-8.0f), total[t]), row, begin, end, out + static_cast<size_t>(first + t) * stride);
    });
  }
}
