// Products with the listed channels of a matrix (channels.hpp says where things lie), written once against ChannelDot of the
// including instruction set. Included by kernels.inl.

constexpr int kChannelLanes = kBlock / 8;  // registers to a block of outputs

// Adds what one group's quads [begin, end) give to `blocks` blocks of 64 outputs of a panel of w.
template <int bits, bool minimum>
static void add_group(const ChannelsView& m, const ChannelList& list, int g, int begin, int end, float d, int32_t sum, const uint8_t* group, int w,
                      int first, int blocks, float* y) {
  using Lanes = SlabDot::Lanes;
  const uint16_t* scales = reinterpret_cast<const uint16_t*>(group) + first;
  const size_t stride = m.channel_bytes(w);
  const uint8_t* codes = group + m.header_bytes(w) + m.channel_bytes(first);
  const Lanes offset = Lanes::set1(bits == 4 && !minimum ? static_cast<float>(8 * sum) : 0.0f), factor = Lanes::set1(d), base = Lanes::set1(d * static_cast<float>(sum));
  (void)g;
  for (int b = 0; b < blocks; b++) {
    Lanes sums[kChannelLanes];
    ChannelDot::sums<bits>(codes + static_cast<size_t>(b) * kBlock * bits / 8, stride, m.group() - 1, list.channels.data(), list.q.data(), begin, end, sums);
    for (int i = 0; i < kChannelLanes; i++) {
      const int at = b * kBlock + i * 8;
      Lanes total = fma(sums[i] - offset, Lanes::load_f16(scales + at) * factor, Lanes::load(y + at));
      if constexpr (minimum) total = fma(Lanes::load_f16(scales + w + at), base, total);
      total.store(y + at);
    }
  }
}

template <int bits, bool minimum>
static void channels_quantized(const ChannelsView& m, const ChannelList& list, const uint8_t* panel, int w, int first, int blocks, float* y) {
  const int per_group = m.group() / list.granule, granules = static_cast<int>(list.sums.size());
  for (int g = 0; g < m.groups(); g++) {
    const int from = g * per_group, to = from + per_group < granules ? from + per_group : granules;
    const int begin = list.starts[static_cast<size_t>(from)], end = list.starts[static_cast<size_t>(to)];
    if (begin == end) continue;
    int32_t sum = 0;
    for (int i = from; i < to; i++) sum += list.sums[static_cast<size_t>(i)];
    add_group<bits, minimum>(m, list, g, begin, end, list.d[static_cast<size_t>(from)], sum, panel + static_cast<size_t>(g) * m.group_bytes(w), w, first, blocks, y);
  }
}

template <class T, F (*load)(const T*)>
static void channels_floats(const ChannelsView& m, const ChannelList& list, const uint8_t* panel, int w, int first, int blocks, float* y) {
  for (size_t g = 0; g + 1 < list.starts.size(); g++)
    for (int i = list.starts[g] * kTogetherInputs; i < list.starts[g + 1] * kTogetherInputs; i++) {
      const size_t channel = g * static_cast<size_t>(list.granule) / 32 * 32 + list.channels[static_cast<size_t>(i)];
      const T* values = reinterpret_cast<const T*>(panel + channel * m.channel_bytes(w)) + first;
      const F x = F::set1(list.x[static_cast<size_t>(i)]);
      for (int o = 0; o < blocks * kBlock; o += F::lanes) fma(x, load(values + o), F::load(y + o)).store(y + o);
    }
}

// out[o - begin] = the listed channels' product with output o, for outputs [begin, end) of one panel; begin a multiple of 64.
static void dot_channels(const ChannelsView& m, const ChannelList& list, int begin, int end, float* out) {
  auto run = [&]() -> void (*)(const ChannelsView&, const ChannelList&, const uint8_t*, int, int, int, float*) {
    switch (m.format.kind) {
      case Kind::F32: return channels_floats<float, F::load>;
      case Kind::F16: return channels_floats<uint16_t, F::load_f16>;
      case Kind::BF16: return channels_floats<uint16_t, F::load_bf16>;
      case Kind::Quantized: break;
    }
    if (m.format.bits == 4) return m.format.minimum ? channels_quantized<4, true> : channels_quantized<4, false>;
    return m.format.minimum ? channels_quantized<8, true> : channels_quantized<8, false>;
  }();
  const int start = begin / kPanel * kPanel;
  float y[kPanel] = {};
  run(m, list, m.panel(start), m.panel_width(start), begin - start, (end - begin + kBlock - 1) / kBlock, y);
  std::memcpy(out, y, sizeof(float) * static_cast<size_t>(end - begin));
}
