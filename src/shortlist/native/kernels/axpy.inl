// Weighted sums of the rows of a list, written once against F of the including instruction set. Included by kernels.inl.

// Eight bits to eight bytes of 0 or 1.
static inline uint64_t spread_byte(uint8_t bits) {
  uint64_t one_each = bits * 0x0101010101010101ull & 0x8040201008040201ull;
  return (one_each + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull;
}

// Column i of block b of a row of floats, of a tile, of planes: the readable twins of what the kernels unpack.
static float float_value(const RowsView& m, int64_t row, int b, int i) {
  const uint8_t* p = m.row(row) + static_cast<size_t>(b * kBlock + i) * (m.format.bits / 8);
  if (m.format.kind == Kind::F32) {
    float value;
    std::memcpy(&value, p, 4);
    return value;
  }
  return m.format.kind == Kind::F16 ? half_to_float(read16(p)) : bfloat_to_float(read16(p));
}
static float value_of(const Format& f, int code, float scale, float minimum) {
  if (f.looked_up()) code = f.table[code];
  return f.minimum ? scale * static_cast<float>(code) + minimum : scale * static_cast<float>(code - f.offset());
}
static float tiled_value(const RowsView& m, int64_t row, int b, int i) {
  const Format& f = m.format;
  const int lane = static_cast<int>(row % kTileRows), column = b * kBlock + i, at = column % f.span();
  const uint8_t* span = m.tile(row) + static_cast<size_t>(column / f.span()) * m.span_bytes();
  uint8_t codes[32];
  slab_codes(span + m.header_bytes() + static_cast<size_t>(at / 32) * m.slab_bytes(), f, i % 32 / 4, codes);
  // The lane's own scales of this span, side by side as those of a row.
  uint16_t halves[4], minima[4];
  uint8_t bytes[kSuperBlock / 16];
  const uint8_t* from = span;
  auto numbers = [&](uint16_t* to) {
    for (int n = 0; n < f.halves(); n++, from += kTileRows * 2) to[n] = read16(from + lane * 2);
  };
  numbers(halves);
  if (f.minimum) numbers(minima);
  for (int n = 0; n < f.bytes(); n++) bytes[n] = from[n * kTileRows + lane];
  const Scales scales{halves, minima, bytes};
  return value_of(f, codes[lane * 4 + i % 4], scale_at(f, scales, at / f.group), minimum_at(f, scales, at / f.group));
}
static float planes_value(const RowsView& m, int64_t row, int b, int i) {
  const Format& f = m.format;
  const uint8_t* low = m.row(row) + b * kBlock * f.low_bits() / 8;
  int code = f.low_bits() == 2 ? low[i % 16] >> (i / 16 * 2) & 3 : low[i % 32] >> (i / 32 * 4) & 15;
  if (f.bits == 8) code = code << 4 | (m.lower(row)[b * 32 + i % 32] >> (i / 32 * 4) & 15);
  for (int plane = 0; plane < f.planes(); plane++)
    code |= (m.row(row)[m.low_bytes() + static_cast<size_t>(plane) * m.padded / 8 + static_cast<size_t>(b * 8 + i / 8)] >> i % 8 & 1)
            << (f.low_bits() + plane);
  const Scales scales = row_scales(m, m.row(row));
  const int g = (b * kBlock + i) / f.group;
  return value_of(f, code, scale_at(f, scales, g), minimum_at(f, scales, g));
}

// The readable twin of axpy_list, for any layout.
static void axpy_row(const RowsView& m, int64_t row, float a, float* y) {
  const auto value = !m.format.quantized() ? float_value : m.tiled ? tiled_value : planes_value;
  for (int column = 0; column < m.cols; column++) y[column] += a * value(m, row, column / kBlock, column % kBlock);
}

// The codes of block b of a row as signed bytes: values of a table, else centred unless a minimum says where they start.
template <int id>
static SHORTLIST_INLINE void block_codes(const RowsView& m, const uint8_t* row, const uint8_t* lower, int b, int8_t* codes) {
  constexpr Format f = kFormats[id];
  if constexpr (f.bits == 8) {
    const uint8_t *high = row + b * 32, *low = lower + b * 32;
    for (int j = 0; j < 32; j++) codes[j] = static_cast<int8_t>((high[j] << 4 | (low[j] & 15)) ^ 0x80);
    for (int j = 0; j < 32; j++) codes[j + 32] = static_cast<int8_t>(((high[j] & 0xf0) | low[j] >> 4) ^ 0x80);
  } else if constexpr (f.looked_up()) {
    const uint8_t* low = row + b * 32;
    for (int j = 0; j < 32; j++) codes[j] = f.table[low[j] & 15], codes[j + 32] = f.table[low[j] >> 4];
  } else {
    uint64_t high[kBlock / 8] = {};
    for (int plane = 0; plane < f.planes(); plane++) {
      const uint8_t* from = row + m.low_bytes() + static_cast<size_t>(plane) * m.padded / 8 + b * 8;
      for (int i = 0; i < 8; i++) high[i] |= spread_byte(from[i]) << (f.low_bits() + plane);
    }
    uint8_t upper[kBlock];
    std::memcpy(upper, high, kBlock);
    constexpr int per_byte = 8 / f.low_bits(), bytes = kBlock / per_byte, mask = (1 << f.low_bits()) - 1;
    const uint8_t* low = row + b * bytes;
    for (int part = 0; part < per_byte; part++)
      for (int j = 0; j < bytes; j++)
        codes[part * bytes + j] = static_cast<int8_t>(((low[j] >> (part * f.low_bits()) & mask) | upper[part * bytes + j]) - f.offset());
  }
}

// Rows are added a few at a time, so that y is loaded and stored once for all of them; the next ones are fetched meanwhile.
constexpr int kTogether = 4;
constexpr int kLanes = kBlock / F::lanes;  // registers to a block of columns

// add(row, lower, a, b, sum) adds block b of a row times a; y points to the first block.
template <class Add>
static SHORTLIST_INLINE void axpy_blocks(const RowsView& m, const int32_t* rows, const float* a, int64_t count, int first, int last,
    float* y, Add add) {
  // Bytes to a block of columns: of floats, or of nibbles (of 8-bit rows in either plane) or 2-bit fields. Scales lie behind the planes.
  const bool quantized = m.format.quantized();
  const size_t step = static_cast<size_t>(kBlock) * static_cast<size_t>(quantized ? m.format.low_bits() : m.format.bits) / 8;
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

template <int id>
static void axpy_quantized(const RowsView& m, const int32_t* rows, const float* a, int64_t count, int first, int last, float* y) {
  constexpr Format f = kFormats[id];
  constexpr int per_block = kBlock / f.group, per_group = f.group / F::lanes;
  axpy_blocks(m, rows, a, count, first, last, y,
      [&](const uint8_t* row, const uint8_t* lower, float factor, int b, F* sum) __attribute__((always_inline)) {
    alignas(64) int8_t codes[kBlock];
    block_codes<id>(m, row, lower, b, codes);
    const Scales scales = row_scales(m, row);
    for (int g = 0; g < per_block; g++) {
      const F scale = F::set1(factor * scale_at(f, scales, b * per_block + g));
      for (int k = g * per_group; k < (g + 1) * per_group; k++) {
        sum[k] = fma(scale, F::load_int8(codes + k * F::lanes), sum[k]);
        if constexpr (f.minimum) sum[k] = sum[k] + F::set1(factor * minimum_at(f, scales, b * per_block + g));
      }
    }
  });
}

template <class T, F (*load)(const T*)>
static void axpy_floats(const RowsView& m, const int32_t* rows, const float* a, int64_t count, int first, int last, float* y) {
  axpy_blocks(m, rows, a, count, first, last, y,
      [&](const uint8_t* row, const uint8_t*, float factor, int b, F* sum) __attribute__((always_inline)) {
    const T* values = reinterpret_cast<const T*>(row) + b * kBlock;
    for (int k = 0; k < kLanes; k++) sum[k] = fma(F::set1(factor), load(values + k * F::lanes), sum[k]);
  });
}

static void axpy_list(const RowsView& m, const int32_t* rows, const float* a, int64_t count, int begin, int end, float* y) {
  auto blocks = [&](int first, int last, float* to) {
    switch (m.format.kind) {
      case Kind::F32: return axpy_floats<float, F::load>(m, rows, a, count, first, last, to);
      case Kind::F16: return axpy_floats<uint16_t, F::load_f16>(m, rows, a, count, first, last, to);
      case Kind::BF16: return axpy_floats<uint16_t, F::load_bf16>(m, rows, a, count, first, last, to);
      case Kind::Quantized: return with_format(m.format, [&](auto id) {
        axpy_quantized<decltype(id)::value>(m, rows, a, count, first, last, to);
      });
    }
  };
  const int first = begin / kBlock, whole = end / kBlock, rest = end % kBlock;
  if (whole > first) blocks(first, whole, y + begin);
  if (rest) {  // y ends within the last block
    float last[kBlock] = {};
    std::memcpy(last, y + whole * kBlock, sizeof(float) * static_cast<size_t>(rest));
    blocks(whole, whole + 1, last);
    std::memcpy(y + whole * kBlock, last, sizeof(float) * static_cast<size_t>(rest));
  }
}
