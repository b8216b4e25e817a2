// Products of 8-bit rows that lie by row, written once against F and StripCodes of the including instruction set. Included by
// dots.inl.
//
// As many rows as a register has lanes are computed together, one to a lane: 64 columns of them are turned into registers once
// (StripCodes) and meet up to eight vectors, without a sum over lanes for any of them. A lane's arithmetic knows nothing of the
// other lanes or the other vectors, so a row has one value, whichever rows and vectors are computed beside it:
//
//   value = sum over groups g of 32 columns, in order, of (sum_i (code_i - offset) * q_i) * (scale_g * d_g), a chain of fma
//
// with the inner sum, a whole number below 2^22, exact.

constexpr int kStripRows = F::lanes;

// The rows of a strip, and those of the next one, which are fetched meanwhile.
struct Strip {
  const uint8_t *upper[kStripRows], *lower[kStripRows], *next_upper[kStripRows], *next_lower[kStripRows];
};

// Columns are fetched a strip ahead or, where rows are wide, so many blocks of 64 columns: more would not stay in the cache.
constexpr int kBlocksAhead = 16;

template <bool whole>
static SHORTLIST_INLINE void fetch_block(const RowsView& m, const Strip& s, int blocks, int b) {
  if (b == 0)  // the end of the rows: scales, and the half cache line before them
    for (const uint8_t* p : s.next_upper) fetch(p + blocks / 2 * 64, p + m.primary_bytes);
  const int to = b + (blocks < kBlocksAhead ? blocks : kBlocksAhead);
  const bool beyond = to >= blocks;
  const int at = beyond ? to - blocks : to;
  if (at % 2) return;  // a cache line holds two blocks
  const uint8_t* const* upper = beyond ? s.next_upper : s.upper;
  const uint8_t* const* lower = beyond ? s.next_lower : s.lower;
  for (int i = 0; i < kStripRows; i++) {
    __builtin_prefetch(upper[i] + at * 32);
    if (whole) __builtin_prefetch(lower[i] + at * 32);
  }
}

// Scales of up to four blocks, two each, a row to a lane: scale[2 * (b - first) + half].
static SHORTLIST_INLINE int load_scales(const RowsView& m, const Strip& s, int blocks, int b, F* scale) {
  const size_t planes = m.planes_bytes();
  if (blocks >= 4) {  // the last four overlap those before rather than end behind the row
    const int first = b <= blocks - 4 ? b : blocks - 4;
    StripCodes::scales(s.upper, planes + static_cast<size_t>(first) * 4, scale);
    return first;
  }
  uint8_t few[kStripRows][16] = {};
  const uint8_t* rows[kStripRows];
  for (int i = 0; i < kStripRows; i++) {
    std::memcpy(few[i], s.upper[i] + planes, static_cast<size_t>(blocks) * 4);
    rows[i] = few[i];
  }
  StripCodes::scales(rows, 0, scale);
  return 0;
}

// total[t] = the products with x_t; of the upper plane alone where not `whole`, and then extent[t] = sum |scale| * l1 too.
template <bool whole, int tokens>
static SHORTLIST_INLINE void dot_strip8(const RowsView& m, const Batch& x, const Strip& s, bool prefetch, F* total, F* extent) {
  constexpr float offset = whole ? -128.0f : 7.5f - 128.0f;
  const int blocks = m.padded / kBlock;
  const size_t columns = static_cast<size_t>(m.padded), groups = columns / 32;
  for (int t = 0; t < tokens; t++) total[t] = F::zero();
  if constexpr (!whole)
    for (int t = 0; t < tokens; t++) extent[t] = F::zero();
  F scales[8];
  int first = 0;
  for (int b = 0; b < blocks; b++) {
    if (prefetch) fetch_block<whole>(m, s, blocks, b);
    if (b % 4 == 0) first = load_scales(m, s, blocks, b, scales);
    StripCodes codes;
    codes.template load<whole>(s.upper, s.lower, static_cast<size_t>(b) * 32);
    auto add = [&](auto half) __attribute__((always_inline)) {
      const size_t g = static_cast<size_t>(2 * b + half.value);
      F sums[tokens];
      codes.template sums<whole, half.value, tokens>(x.q + b * kBlock + half.value * 32, columns, sums);
      const F scale = scales[2 * (b - first) + half.value];
#pragma GCC unroll 8
      for (int t = 0; t < tokens; t++) {
        const size_t at = static_cast<size_t>(t) * groups + g;
        total[t] = fma(fma(F::set1(x.n32[at]), F::set1(offset), sums[t]), scale * F::set1(x.d32[at]), total[t]);
        if constexpr (!whole) extent[t] = fma(abs(scale), F::set1(x.l1[at]), extent[t]);
      }
    };
    add(std::integral_constant<int, 0>());
    add(std::integral_constant<int, 1>());
  }
}

static SHORTLIST_INLINE void store_lanes(F values, int n, float* out) {
  if (n == F::lanes) return values.store(out);
  float all[F::lanes];
  values.store(all);
  std::memcpy(out, all, sizeof(float) * static_cast<size_t>(n));
}

// Calls of(strip, at, n) for strips of n rows from place `at` on; row(i) is the row at a place. Places before `known` may be
// asked for, so that the rows behind the last strip are fetched for who comes next.
template <class Row, class Of>
static SHORTLIST_INLINE void each_strip(const RowsView& m, Row row, int64_t count, int64_t known, Of of) {
  Strip s;
  for (int64_t at = 0; at < count; at += kStripRows) {
    const int n = count - at < kStripRows ? static_cast<int>(count - at) : kStripRows;
    for (int i = 0; i < kStripRows; i++) {  // lanes without a row repeat the last one
      const int64_t here = row(i < n ? at + i : at + n - 1), then = row(at + kStripRows + i < known ? at + kStripRows + i : known - 1);
      s.upper[i] = m.row(here), s.lower[i] = m.lower(here);
      s.next_upper[i] = m.row(then), s.next_lower[i] = m.lower(then);
    }
    of(s, at, n);
  }
}

// out[t * stride + i] = row(i) . x_t for i in [0, count).
template <class Row>
static void dot_rows8(const RowsView& m, const Batch& x, Row row, int64_t count, int64_t known, float* out, size_t stride) {
  each_strip(m, row, count, known, [&](const Strip& s, int64_t at, int n) {
    token_blocks(x.tokens, [&](auto block, int first) __attribute__((always_inline)) {
      constexpr int tokens = decltype(block)::value;
      F total[tokens];
      dot_strip8<true, tokens>(m, x.from(first), s, first == 0, total, nullptr);
      for (int t = 0; t < tokens; t++) store_lanes(total[t], n, out + static_cast<size_t>(first + t) * stride + at);
    });
  });
}

// Why the radius always holds. estimators/bit_planes.py is the readable twin, with the same constants.
//
// Legend: g a group of 32 inputs, i an input of it;
//   weight = s_g (u_i - 128), u_i = 16 hi_i + lo_i in 0..255, s_g a 16-bit float;
//   query  ~ d_g q_i, q_i an integer in -127..127, d_g a 32-bit float, zero or normal. The rounding of the
//            query is no error here: dense value and estimate start from the same q and d.
//
//   D = sum_g s_g d_g sum_i (u_i - 128) q_i             what the dense kernel computes
//   E = sum_g s_g d_g sum_i (16 hi_i + 7.5 - 128) q_i   what the upper plane knows of it
//   A = sum_g |s_g| d_g sum_i |q_i|                     the same scales and the L1 norm of the query's group
//
// 1. The lower plane. |lo_i - 7.5| <= 7.5, so |D - E| <= 7.5 A.
//
// 2. Rounding, for e = 2^-24 and gamma(K) = K e / (1 - K e). Sums of integers within a group stay below
//    383 * 127 * 32 < 2^21, so they are exact in int32 and as float32 (halves included). Everything else is
//    a sum of products s d I, where I is such an integer; whichever way the kernel cuts the groups into
//    lanes, and also when it adds (u q) and (-128 q) as separate terms, the magnitudes of the terms add up to
//    at most (255 + 128) A < 384 A. If no product passes more than K roundings (two for s d I, one for each
//    addition on its path), then
//        |fl(D) - D| <= 384 gamma(K) A,   |fl(E) - E| <= 384 gamma(K) A,   A <= fl(A) / (1 - gamma(K)).
//    K = 2 groups + 16 covers one accumulator, lanes that are added up at the end, and separate corrections.
//
// 3. Together. |fl(D) - fl(E)| <= (7.5 + 768 gamma(K)) A. Written in terms of fl(A), with the roundings of the
//    bound itself (7.5 (gamma(K) + 4 e) and smaller terms, far below 256 gamma(K)):
//        bound = (7.5 + 1024 gamma(K)) fl(A)
//    Rounding to nearest is monotone and fl(D) is a float, so fl(fl(E) - bound) <= fl(D) <= fl(fl(E) + bound):
//    taking the sum and the difference in float32 needs no further allowance.
//
// 4. Underflow, gradual or flushed to zero, changes a product or a sum by at most 2^-126. Within a group that
//    error is multiplied by integers that add up to less than 2^21, so D and E move by less than 2^-104 per
//    group each, and 7.5 A by less than that: add groups * 2^-102.
//
// 5. Overflow. |s| < 2^16, so while sum_g d_g sum_i |q_i| < 2^100 every sum above stays below
//    384 * 2^116 < 2^125. Beyond that, and for a query that is not finite, nothing is known: bound = infinity.
// Here a term is a whole number of a group (a half in E) times fl(s d), and passes at most groups + 2 roundings.
template <class Row>
static void upper_rows8(const RowsView& m, const Batch& x, Row row, int64_t count, int64_t known, float* middle, float* radius,
    size_t stride) {
  const size_t groups = static_cast<size_t>(m.padded / 32);
  const float roundings = static_cast<float>(2 * groups + 16) * 0x1p-24f;
  const F reach = F::set1(7.5f + 1024.0f * roundings / (1.0f - roundings));
  each_strip(m, row, count, known, [&](const Strip& s, int64_t at, int n) {
    token_blocks(x.tokens, [&](auto block, int first) __attribute__((always_inline)) {
      constexpr int tokens = decltype(block)::value;
      const Batch some = x.from(first);
      F total[tokens], extent[tokens];
      dot_strip8<false, tokens>(m, some, s, first == 0, total, extent);
      for (int t = 0; t < tokens; t++) {
        float query_extent = 0.0f;
        for (size_t g = 0; g < groups; g++) query_extent += some.l1[static_cast<size_t>(t) * groups + g];
        const float slack = query_extent < 0x1p100f ? static_cast<float>(groups) * 0x1p-102f : INFINITY;
        const size_t to = static_cast<size_t>(first + t) * stride + static_cast<size_t>(at);
        store_lanes(total[t], n, middle + to);
        store_lanes(fma(reach, extent[t], F::set1(slack)), n, radius + to);
      }
    });
  });
}
