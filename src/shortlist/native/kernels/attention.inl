// Attention of one token over the cache, for query heads that share a KV head. Included by kernels.inl.

static F load_any(const float* p) { return F::load(p); }
static F load_any(const uint16_t* p) { return F::load_f16(p); }
static float value_of(float x) { return x; }
static float value_of(uint16_t h) { return half_to_float(h); }

// heads is small (the group of one KV head), so each key and value is loaded and widened once for all of them.
template <class T, int heads>
static void attend_heads(const float* q, int dim, const T* k, const T* v, int64_t first, int64_t last, float scale, float* scores, float* out) {
  const int64_t count = last - first + 1;
  const int whole = dim / F::lanes * F::lanes;
  // Some positions at a time, because one product would wait for itself, and sums over lanes are cheaper for eight at once.
  constexpr int together = heads == 3 ? 2 : 8 / heads;
  for (int64_t p = 0; p < count; p += together) {
    const int fresh = count - p < together ? static_cast<int>(count - p) : together;
    const T* key[together];
    F sum[8];
    float rest[8] = {}, products[8];
    for (int j = 0; j < together; j++) {
      key[j] = k + (first + p + (j < fresh ? j : fresh - 1)) * dim;
      for (int i = 0; i < dim; i += 64 / static_cast<int>(sizeof(T))) __builtin_prefetch(v + (key[j] - k) + i);  // needed next
    }
    for (int n = 0; n < heads * together; n++) sum[n] = F::zero();
    for (int i = 0; i < whole; i += F::lanes)
      for (int j = 0; j < together; j++) {
        const F key_lanes = load_any(key[j] + i);
        for (int h = 0; h < heads; h++) sum[j * heads + h] = fma(F::load(q + h * dim + i), key_lanes, sum[j * heads + h]);
      }
    for (int i = whole; i < dim; i++)
      for (int n = 0; n < heads * together; n++) rest[n] += q[n % heads * dim + i] * value_of(key[n / heads][i]);
    sum_each(sum, rest, heads * together, products);
    for (int j = 0; j < fresh; j++)
      for (int h = 0; h < heads; h++) scores[h * count + p + j] = products[j * heads + h] * scale;
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
