// Scales and minima of a format, as floats, by row and in tiles (rows.hpp says where they lie), and how a format's number becomes a
// template's. Included by kernels.inl.

// run(number) with the number of a quantized format as a constant. The Run is the including set's own, so that what is compiled
// here is not shared with another instruction set.
template <class Run, int... ids>
static void with_id(int id, Run& run, std::integer_sequence<int, ids...>) {
  using Call = void (*)(Run&);
  static constexpr Call calls[] = {+[](Run& r) { r(std::integral_constant<int, kFloats + ids>()); }...};
  calls[id - kFloats](run);
}
template <class Run>
static void with_format(const Format& format, Run run) {
  with_id(format.id, run, std::make_integer_sequence<int, kFormatCount - kFloats>());
}

// What a row or a span of a tile holds before its bytes of scales.
struct Scales {
  const uint16_t *halves, *minima;
  const uint8_t* bytes;
};

static inline Scales row_scales(const RowsView& m, const uint8_t* row) {
  const uint16_t* halves = reinterpret_cast<const uint16_t*>(row + m.planes_bytes());
  const uint16_t* minima = halves + m.halves();
  return {halves, minima, reinterpret_cast<const uint8_t*>(m.format.minimum ? minima + m.halves() : minima)};
}

template <int id>
static SHORTLIST_INLINE Scales tile_scales(const uint8_t* span) {
  constexpr Format f = kFormats[id];
  const uint16_t *halves = reinterpret_cast<const uint16_t*>(span), *minima = halves + f.halves() * kTileRows;
  return {halves, minima, span + (f.minimum ? 2 : 1) * f.halves() * kTileRows * 2};
}

// The float16 factors of the groups [g, g + V::lanes) of a row; g is a multiple of 8.
template <int id, class V>
static SHORTLIST_INLINE V factors(const uint16_t* halves, int g) {
  constexpr int per = kSuperBlock / kFormats[id].group;
  if constexpr (per >= V::lanes)
    return V::set1(F::half(halves[g / per]));
  else
    return V::pair(F::half(halves[g / per]), F::half(halves[g / per + 1]));
}

// The scales of groups [g, g + V::lanes) of a row, and what stands beside the codes' sums: minima, else scales.
template <int id, class V>
static SHORTLIST_INLINE V scales_of(const Scales& s, int g) {
  constexpr Format f = kFormats[id];
  if constexpr (f.scale == Scale::F16) return V::load_f16(s.halves + g);
  if constexpr (f.scale == Scale::E8M0) return V::load_e8m0(s.bytes + g);
  if constexpr (f.scale == Scale::Sub8) return V::load_int8(reinterpret_cast<const int8_t*>(s.bytes) + g) * factors<id, V>(s.halves, g);
  if constexpr (f.scale == Scale::Sub4) return V::load_low4(s.bytes + g) * factors<id, V>(s.halves, g);
}
template <int id, class V>
static SHORTLIST_INLINE V bases_of(const Scales& s, int g, V scales) {
  constexpr Format f = kFormats[id];
  if constexpr (!f.minimum) return scales;
  if constexpr (f.minimum && f.scale == Scale::Sub4) return V::load_high4(s.bytes + g) * factors<id, V>(s.minima, g);
  if constexpr (f.minimum && f.scale == Scale::F16) return V::load_f16(s.minima + g);
}

// The same of one group.
static SHORTLIST_INLINE float scale_at(const Format& f, const Scales& s, int g) {
  const int factor = g * f.group / kSuperBlock;
  switch (f.scale) {
    case Scale::F16: return F::half(s.halves[g]);
    case Scale::E8M0: return e8m0_to_float(s.bytes[g]);
    case Scale::Sub8: return F::half(s.halves[factor]) * static_cast<float>(static_cast<int8_t>(s.bytes[g]));
    default: return F::half(s.halves[factor]) * static_cast<float>(s.bytes[g] & 15);
  }
}
static SHORTLIST_INLINE float minimum_at(const Format& f, const Scales& s, int g) {
  if (!f.minimum) return 0.0f;
  return f.scale == Scale::F16 ? F::half(s.minima[g]) : F::half(s.minima[g * f.group / kSuperBlock]) * static_cast<float>(s.bytes[g] >> 4);
}

// The scales of group g of a tile's span, a row to a lane, and what stands beside the codes' sums.
template <int id, class V>
static SHORTLIST_INLINE V tile_scale(const Scales& s, int g) {
  constexpr Format f = kFormats[id];
  if constexpr (f.scale == Scale::F16) return V::load_f16(s.halves + g * kTileRows);
  if constexpr (f.scale == Scale::E8M0) return V::load_e8m0(s.bytes + g * kTileRows);
  if constexpr (f.scale == Scale::Sub8)
    return V::load_int8(reinterpret_cast<const int8_t*>(s.bytes) + g * kTileRows) * V::load_f16(s.halves);
  if constexpr (f.scale == Scale::Sub4) return V::load_low4(s.bytes + g * kTileRows) * V::load_f16(s.halves);
}
template <int id, class V>
static SHORTLIST_INLINE V tile_base(const Scales& s, int g) {
  constexpr Format f = kFormats[id];
  if constexpr (!f.minimum) return tile_scale<id, V>(s, g);
  if constexpr (f.minimum && f.scale == Scale::Sub4) return V::load_high4(s.bytes + g * kTileRows) * V::load_f16(s.minima);
  if constexpr (f.minimum && f.scale == Scale::F16) return V::load_f16(s.minima + g * kTileRows);
}
