// Products of tiled matrices (rows.hpp says where things lie) with one vector, written once against SlabDot of the
// including instruction set, and how the other kernels look into a tile. Included by dots.inl.

// The codes of step k of a slab as bytes: to[4 r + i] is that of row r, column 4 k + i; unsigned, 8-bit ones too.
static SHORTLIST_INLINE void slab_codes(const uint8_t* slab, int bits, int k, uint8_t* to) {
  if (bits == 8) {
    for (int j = 0; j < 32; j++) to[j] = slab[k * 32 + j] ^ 0x80;
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

// out[i] = row begin + i . x.
template <int bits, int group, bool minimum>
static void dot_tiles(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* out) {
  using Lanes = SlabDot::Lanes;
  constexpr int per_block = kBlock / group, header = per_block * kTileRows * 2 * (minimum ? 2 : 1), slab = 32 * bits, block = header + 2 * slab;
  constexpr float offset = minimum ? 1.0f : bits == 8 ? 0.0f : static_cast<float>(-(1 << (bits - 1)));
  const float* d = group == 32 ? x.d32 : x.d16;
  const float* sums = group == 32 ? x.s32 : x.s16;
  const uint8_t* p = m.tile(begin);
  for (int64_t row = begin / kTileRows * kTileRows; row < end; row += kTileRows) {
    // As for rows: scales multiply the integer sums of their groups; offsets or minima multiply the sums of the query's codes.
    Lanes total = Lanes::zero(), correction = Lanes::zero();
    for (int b = 0; b < m.padded / kBlock; b++, p += block) {
      for (int line = 0; line < block; line += 64) __builtin_prefetch(p + line + kAhead);
      const uint16_t* scales = reinterpret_cast<const uint16_t*>(p);
      auto add = [&](int g, Lanes products) __attribute__((always_inline)) {
        const int at = b * per_block + g;
        const Lanes scale = Lanes::load_f16(scales + g * kTileRows);
        total = fma(products, scale * Lanes::set1(d[at]), total);
        if constexpr (offset != 0.0f)
          correction = fma(minimum ? Lanes::load_f16(scales + (per_block + g) * kTileRows) : scale, Lanes::set1(sums[at]), correction);
      };
      for (int half = 0; half < 2; half++) {
        const uint8_t* codes = p + header + half * slab;
        const int8_t* q = x.q + b * kBlock + half * 32;
        if constexpr (group == 32) {
          add(half, SlabDot::sum<bits, 0, 8>(codes, q));
        } else {
          add(2 * half, SlabDot::sum<bits, 0, 4>(codes, q));
          add(2 * half + 1, SlabDot::sum<bits, 4, 4>(codes, q));
        }
      }
    }
    total = fma(correction, Lanes::set1(offset), total);
    store_tile(total, row, begin, end, out);
  }
}

// The coordinates of an estimate (codes.hpp).
static void dot_codes(const CodesView& m, const Batch& x, int64_t begin, int64_t end, float* out) {
  using Lanes = SlabDot::Lanes;
  const uint8_t* p = m.tiles + static_cast<size_t>(begin / kTileRows) * m.tile_bytes();
  for (int64_t row = begin / kTileRows * kTileRows; row < end; row += kTileRows) {
    for (size_t line = 0; line < m.tile_bytes(); line += 64) __builtin_prefetch(p + line + kAhead);
    Lanes total = Lanes::zero(), correction = Lanes::zero();
    auto scale = [&] { return Lanes::load_f16(reinterpret_cast<const uint16_t*>(p)); };
    for (int g = 0; g < m.eights; g++, p += CodesView::kEight)
      total = fma(SlabDot::sum<8, 0, 8>(p + CodesView::kScales, x.q + g * kGroup), scale() * Lanes::set1(x.d32[g]), total);
    for (int g = m.eights; g < m.eights + m.fours; g++, p += CodesView::kFour) {
      total = fma(SlabDot::sum<4, 0, 8>(p + CodesView::kScales, x.q + g * kGroup), scale() * Lanes::set1(x.d32[g]), total);
      correction = fma(scale(), Lanes::set1(x.s32[g]), correction);
    }
    store_tile(fma(correction, Lanes::set1(-8.0f), total), row, begin, end, out);
  }
}

static void dot_tiled_range(const RowsView& m, const Batch& x, int64_t begin, int64_t end, float* out) {
  switch (m.format.bits) {
    case 4: return (m.format.minimum ? dot_tiles<4, 32, true> : dot_tiles<4, 32, false>)(m, x, begin, end, out);
    case 5: return (m.format.minimum ? dot_tiles<5, 32, true> : dot_tiles<5, 32, false>)(m, x, begin, end, out);
    case 6: return dot_tiles<6, 16, false>(m, x, begin, end, out);
    case 8: return dot_tiles<8, 32, false>(m, x, begin, end, out);
  }
}
