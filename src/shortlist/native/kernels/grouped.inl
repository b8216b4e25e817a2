// The inner loops of grouped.cpp: tiles of products of float32 matrices. Part of kernels.inl.

// c[i * c_stride + j] (+)= sum_k a(i, k) * b[k * width + j] for `rows` rows and `vectors` registers of columns, width in all.
// a(i, k) lies at a[k * kFloatTile + i] where rows are interleaved, else at a[i * a_stride + k].
template <int rows, int vectors, bool interleaved>
static SHORTLIST_INLINE void tile_of(const float* a, int64_t a_stride, const float* b, int64_t depth, float* c, int64_t c_stride,
    bool add) {
  constexpr int width = vectors * F::lanes;
  F sum[rows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) sum[i][v] = F::zero();
  for (int64_t k = 0; k < depth; k++) {
    F x[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) x[v] = F::load(b + k * width + v * F::lanes);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      const F w = F::set1(interleaved ? a[k * kFloatTile + i] : a[i * a_stride + k]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) sum[i][v] = fma(w, x[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
      float* out = c + i * c_stride + v * F::lanes;
      (add ? F::load(out) + sum[i][v] : sum[i][v]).store(out);
    }
}

template <int rows, int vectors>
static void tile_rows(const float* a, int64_t a_stride, const float* b, int64_t depth, float* c, int64_t c_stride, bool add) {
  if (a_stride)
    tile_of<rows, vectors, false>(a, a_stride, b, depth, c, c_stride, add);
  else
    tile_of<rows, vectors, true>(a, a_stride, b, depth, c, c_stride, add);
}

static void float_tile(const float* a, int64_t a_stride, const float* b, int rows, int vectors, int64_t depth, float* c, int64_t c_stride,
    bool add) {
  using Tile = void (*)(const float*, int64_t, const float*, int64_t, float*, int64_t, bool);
  static constexpr Tile tiles[kFloatTile][2] = {
      {tile_rows<1, 1>, tile_rows<1, 2>}, {tile_rows<2, 1>, tile_rows<2, 2>}, {tile_rows<3, 1>, tile_rows<3, 2>},
      {tile_rows<4, 1>, tile_rows<4, 2>}, {tile_rows<5, 1>, tile_rows<5, 2>}, {tile_rows<6, 1>, tile_rows<6, 2>},
  };
  tiles[rows - 1][vectors - 1](a, a_stride, b, depth, c, c_stride, add);
}

// out[i * kFew + t] = row i of a . x_t, for `rows` rows and as many x as `tokens`; rows lie depth apart.
template <int rows, int tokens>
static void dots_of(const float* a, const float* x, int64_t depth, float* out) {
  F sum[rows][tokens];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int t = 0; t < tokens; t++) sum[i][t] = F::zero();
  int64_t k = 0;
  for (; k + F::lanes <= depth; k += F::lanes) {
    F v[tokens];
#pragma GCC unroll 4
    for (int t = 0; t < tokens; t++) v[t] = F::load(x + t * depth + k);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      const F w = F::load(a + i * depth + k);
#pragma GCC unroll 4
      for (int t = 0; t < tokens; t++) sum[i][t] = fma(w, v[t], sum[i][t]);
    }
  }
  for (int i = 0; i < rows; i++)
    for (int t = 0; t < tokens; t++) {
      float total = sum[i][t].sum();
      for (int64_t j = k; j < depth; j++) total += a[i * depth + j] * x[t * depth + j];
      out[i * kFew + t] = total;
    }
}

static void float_dots(const float* a, const float* x, int rows, int tokens, int64_t depth, float* out) {
  using Dots = void (*)(const float*, const float*, int64_t, float*);
  static constexpr Dots many[kFew] = {dots_of<6, 1>, dots_of<6, 2>, dots_of<3, 3>, dots_of<3, 4>};
  static constexpr Dots one[kFew] = {dots_of<1, 1>, dots_of<1, 2>, dots_of<1, 3>, dots_of<1, 4>};
  const int step = tokens > 2 ? 3 : 6;
  int i = 0;
  for (; i + step <= rows; i += step) many[tokens - 1](a + i * depth, x, depth, out + i * kFew);
  for (; i < rows; i++) one[tokens - 1](a + i * depth, x, depth, out + i * kFew);
}
