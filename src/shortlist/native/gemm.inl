// Products with many vectors: codes are unpacked a tile of rows at a time, which then meets all tokens. Written once against F and
// TileDot of the including instruction set. Included by kernels.inl.

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
