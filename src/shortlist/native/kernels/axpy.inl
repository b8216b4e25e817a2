// Weighted sums of the rows of a list, written once against F of the including instruction set. Included by kernels.inl.

// Eight bits to eight bytes of 0 or 1.
static inline uint64_t spread_byte(uint8_t bits) {
  uint64_t one_each = bits * 0x0101010101010101ull & 0x8040201008040201ull;
  return (one_each + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull;
}

// The readable twin of axpy_list, for any layout.
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

// The codes of block b of a row as signed bytes, centred unless a minimum says where they start.
template <int bits, bool minimum>
static SHORTLIST_INLINE void block_codes(const RowsView& m, const uint8_t* row, const uint8_t* lower, int b, int8_t* codes) {
  const uint8_t* nibbles = row + b * 32;
  if constexpr (bits == 8) {
    const uint8_t* low = lower + b * 32;
    for (int j = 0; j < 32; j++) codes[j] = static_cast<int8_t>((nibbles[j] << 4 | (low[j] & 15)) ^ 0x80);
    for (int j = 0; j < 32; j++) codes[j + 32] = static_cast<int8_t>(((nibbles[j] & 0xf0) | low[j] >> 4) ^ 0x80);
  } else {
    constexpr int offset = minimum ? 0 : 1 << (bits - 1);
    uint64_t high[kBlock / 8] = {};
    for (int plane = 0; plane < bits - 4; plane++) {
      const uint8_t* from = row + m.padded / 2 + static_cast<size_t>(plane) * m.padded / 8 + b * 8;
      for (int i = 0; i < 8; i++) high[i] |= spread_byte(from[i]) << (4 + plane);
    }
    uint8_t upper[kBlock];
    std::memcpy(upper, high, kBlock);
    for (int j = 0; j < 32; j++) codes[j] = static_cast<int8_t>(((nibbles[j] & 15) | upper[j]) - offset);
    for (int j = 0; j < 32; j++) codes[j + 32] = static_cast<int8_t>(((nibbles[j] >> 4) | upper[j + 32]) - offset);
  }
}

// Rows are added a few at a time, so that y is loaded and stored once for all of them; the next ones are fetched meanwhile.
constexpr int kTogether = 4;
constexpr int kLanes = kBlock / F::lanes;  // registers to a block of columns

// add(row, lower, a, b, sum) adds block b of a row times a; y points to the first block.
template <class Add>
static SHORTLIST_INLINE void axpy_blocks(const RowsView& m, const int32_t* rows, const float* a, int64_t count, int first, int last, float* y, Add add) {
  // Bytes to a block of columns: of floats, or of nibbles (of 8-bit rows in either plane). Scales lie behind the planes.
  const bool quantized = m.format.kind == Kind::Quantized;
  const size_t step = quantized ? kBlock / 2 : static_cast<size_t>(kBlock) * m.format.bits / 8;
  auto fetch_row = [&](int64_t r) {
    fetch(m.row(r) + first * step, m.row(r) + last * step);
    if (m.secondary) fetch(m.lower(r) + first * step, m.lower(r) + last * step);
  };
  for (int64_t i = 0; i < count && i < kTogether; i++) fetch_row(rows[i]);
  for (int64_t at = 0; at < count; at += kTogether) {
    const int n = count - at < kTogether ? static_cast<int>(count - at) : kTogether;
    const uint8_t *row[kTogether], *lower[kTogether], *next[kTogether], *next_lower[kTogether];
    for (int i = 0; i < n; i++) {
      const int64_t r = rows[at + i], following = rows[at + i + kTogether < count ? at + i + kTogether : count - 1];
      row[i] = m.row(r), lower[i] = m.lower(r), next[i] = m.row(following), next_lower[i] = m.lower(following);
      if (quantized) fetch(next[i] + m.planes_bytes(), next[i] + m.primary_bytes);
    }
    for (int b = first; b < last; b++) {
      F sum[kLanes];
      float* to = y + (b - first) * kBlock;
      for (int k = 0; k < kLanes; k++) sum[k] = F::load(to + k * F::lanes);
      for (int i = 0; i < n; i++) {
        for (size_t line = 0; line < step; line += 64) __builtin_prefetch(next[i] + b * step + line);
        if (m.secondary) __builtin_prefetch(next_lower[i] + b * step);
        add(row[i], lower[i], a[at + i], b, sum);
      }
      for (int k = 0; k < kLanes; k++) sum[k].store(to + k * F::lanes);
    }
  }
}

template <int bits, int group, bool minimum>
static void axpy_quantized(const RowsView& m, const int32_t* rows, const float* a, int64_t count, int first, int last, float* y) {
  constexpr int per_block = kBlock / group, per_group = group / F::lanes;
  const size_t planes = m.planes_bytes();
  const int groups = m.padded / group;
  axpy_blocks(m, rows, a, count, first, last, y, [&](const uint8_t* row, const uint8_t* lower, float factor, int b, F* sum) __attribute__((always_inline)) {
    alignas(64) int8_t codes[kBlock];
    block_codes<bits, minimum>(m, row, lower, b, codes);
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(row + planes) + b * per_block;
    for (int g = 0; g < per_block; g++) {
      const F scale = F::set1(factor * F::half(scales[g]));
      for (int k = g * per_group; k < (g + 1) * per_group; k++) {
        sum[k] = fma(scale, F::load_int8(codes + k * F::lanes), sum[k]);
        if constexpr (minimum) sum[k] = sum[k] + F::set1(factor * F::half(scales[groups + g]));
      }
    }
  });
}

template <class T, F (*load)(const T*)>
static void axpy_floats(const RowsView& m, const int32_t* rows, const float* a, int64_t count, int first, int last, float* y) {
  axpy_blocks(m, rows, a, count, first, last, y, [&](const uint8_t* row, const uint8_t*, float factor, int b, F* sum) __attribute__((always_inline)) {
    const T* values = reinterpret_cast<const T*>(row) + b * kBlock;
    for (int k = 0; k < kLanes; k++) sum[k] = fma(F::set1(factor), load(values + k * F::lanes), sum[k]);
  });
}

static void axpy_list(const RowsView& m, const int32_t* rows, const float* a, int64_t count, int begin, int end, float* y) {
  auto blocks = [&]() -> void (*)(const RowsView&, const int32_t*, const float*, int64_t, int, int, float*) {
    switch (m.format.kind) {
      case Kind::F32: return axpy_floats<float, F::load>;
      case Kind::F16: return axpy_floats<uint16_t, F::load_f16>;
      case Kind::BF16: return axpy_floats<uint16_t, F::load_bf16>;
      case Kind::Quantized: break;
    }
    switch (m.format.bits) {
      case 4: return m.format.minimum ? axpy_quantized<4, 32, true> : axpy_quantized<4, 32, false>;
      case 5: return m.format.minimum ? axpy_quantized<5, 32, true> : axpy_quantized<5, 32, false>;
      case 6: return axpy_quantized<6, 16, false>;
      default: return axpy_quantized<8, 32, false>;
    }
  }();
  const int first = begin / kBlock, whole = end / kBlock, rest = end % kBlock;
  if (whole > first) blocks(m, rows, a, count, first, whole, y + begin);
  if (rest) {  // y ends within the last block
    float last[kBlock] = {};
    std::memcpy(last, y + whole * kBlock, sizeof(float) * static_cast<size_t>(rest));
    blocks(m, rows, a, count, whole, whole + 1, last);
    std::memcpy(y + whole * kBlock, last, sizeof(float) * static_cast<size_t>(rest));
  }
}
