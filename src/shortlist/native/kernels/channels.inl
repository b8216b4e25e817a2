// Products with the listed channels of a matrix (channels.hpp says where things lie), written once against ChannelDot of the
// including instruction set. Included by kernels.inl.

// The listed channels of one group, in a panel.
struct GroupStep {
  const uint8_t* group = nullptr;  // nullptr: there is none
  int quads = 0;
  const int32_t* q = nullptr;      // [quads] of four codes
  uint32_t at[32];                 // [quads, 4]: where the channels' codes begin, from those of the group's first one
  float d = 0.0f;
  int32_t sum = 0;
};

// Walks over the groups of a panel with a listed channel, and says where these lie.
class GroupWalk {
 public:
  GroupWalk(const ChannelsView& m, const ChannelList& list, const uint8_t* panel, int w)
      : list_(list), panel_(panel), group_bytes_(m.group_bytes(w)), stride_(static_cast<uint32_t>(m.channel_stride(w))),
          mask_(m.group() - 1),
        per_group_(m.group() / list.granule), groups_(m.groups()), granules_(static_cast<int>(list.sums.size())) {}

  void next(GroupStep& step) {
    step.group = nullptr;
    for (; g_ < groups_ && !step.group; g_++) {
      const int from = g_ * per_group_, to = from + per_group_ < granules_ ? from + per_group_ : granules_;
      const int begin = list_.starts[static_cast<size_t>(from)], end = list_.starts[static_cast<size_t>(to)];
      if (begin == end) continue;
      step.group = panel_ + static_cast<size_t>(g_) * group_bytes_;
      step.quads = end - begin;
      step.q = list_.q.data() + begin;
      const uint8_t* channels = list_.channels.data() + begin * kTogetherInputs;
      for (int i = 0; i < step.quads * kTogetherInputs; i++) step.at[i] = static_cast<uint32_t>(channels[i] & mask_) * stride_;
      step.d = list_.d[static_cast<size_t>(from)];
      step.sum = 0;
      for (int i = from; i < to; i++) step.sum += list_.sums[static_cast<size_t>(i)];
    }
  }

 private:
  const ChannelList& list_;
  const uint8_t* panel_;
  size_t group_bytes_;
  uint32_t stride_;
  int mask_, per_group_, groups_, granules_, g_ = 0;
};

// Fetches the codes of a step, a line at a time and channel after channel, between the products of the step before: all at
// once they would block its loads.
class StepFetch {
 public:
  StepFetch(const GroupStep& step, size_t start, size_t run)
      : codes_(step.group + start), run_(run), next_(step.at), last_(step.at + (step.group ? step.quads * kTogetherInputs : 0)) {
    channel();
  }
  bool left() const { return at_ < end_; }
  SHORTLIST_INLINE void line() {
    __builtin_prefetch(at_);
    at_ += 64;
    if (at_ >= end_) channel();
  }

 private:
  SHORTLIST_INLINE void channel() {
    if (next_ == last_) return;
    at_ = codes_ + *next_++;
    end_ = at_ + run_;
  }
  const uint8_t *codes_, *at_ = nullptr, *end_ = nullptr;
  size_t run_;
  const uint32_t *next_, *last_;
};

// Outputs [first, first + 64 blocks) of a panel of w: y += what the list gives.
template <int bits, bool minimum>
static void channels_quantized(const ChannelsView& m, const ChannelList& list, const uint8_t* panel, int w, int first, int blocks,
    float* y) {
  using Lanes = SlabDot::Lanes;
  constexpr size_t block_bytes = kBlock * bits / 8, scale_bytes = kBlock * 2;
  const size_t start = m.header_bytes(w) + m.channel_bytes(first), run = static_cast<size_t>(blocks) * block_bytes;

  GroupWalk walk(m, list, panel, w);
  GroupStep steps[2];
  walk.next(steps[0]);
  for (int s = 0; steps[s].group; s = 1 - s) {
    const GroupStep& step = steps[s];
    GroupStep& ahead = steps[1 - s];
    walk.next(ahead);
    StepFetch fetching(ahead, start, run);
    // scale * (codes - offset) and scale * codes + minimum, times x = d q: the sums of codes times q are whole numbers.
    const Lanes offset = Lanes::set1(static_cast<float>((1 << (bits - 1)) * step.sum));
    const Lanes d = Lanes::set1(step.d), base = Lanes::set1(step.d * static_cast<float>(step.sum));
    for (int b = 0; b < blocks; b++) {
      Lanes sums[kBlock / 8];
      ChannelDot::sums<bits>(step.group + start + static_cast<size_t>(b) * block_bytes, step.at, step.q, step.quads, sums,
                             [&]() __attribute__((always_inline)) { fetching.line(), fetching.line(); });
      const size_t at = static_cast<size_t>(first + b * kBlock);
      if (ahead.group) {
        const uint8_t* next_scales = ahead.group + at * 2;
        fetch(next_scales, next_scales + scale_bytes);
        if (minimum) fetch(next_scales + w * 2, next_scales + w * 2 + scale_bytes);
      }
      const uint16_t* scales = reinterpret_cast<const uint16_t*>(step.group) + at;
      for (int i = 0; i < kBlock; i += 8) {
        float* to = y + b * kBlock + i;
        const Lanes products = minimum || bits == 8 ? sums[i / 8] : sums[i / 8] - offset;  // 8-bit codes are signed
        Lanes total = fma(products, Lanes::load_f16(scales + i) * d, Lanes::load(to));
        if constexpr (minimum) total = fma(Lanes::load_f16(scales + w + i), base, total);
        total.store(to);
      }
    }
    while (fetching.left()) fetching.line();
  }
}

template <class T, F (*load)(const T*)>
static void channels_floats(const ChannelsView& m, const ChannelList& list, const uint8_t* panel, int w, int first, int blocks, float* y) {
  for (size_t g = 0; g + 1 < list.starts.size(); g++)
    for (int i = list.starts[g] * kTogetherInputs; i < list.starts[g + 1] * kTogetherInputs; i++) {
      const size_t channel = g * static_cast<size_t>(list.granule) / 32 * 32 + list.channels[static_cast<size_t>(i)];
      const T* values = reinterpret_cast<const T*>(panel + channel * m.channel_stride(w)) + first;
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
    switch (m.format.bits) {
      case 4: return m.format.minimum ? channels_quantized<4, true> : channels_quantized<4, false>;
      case 5: return m.format.minimum ? channels_quantized<5, true> : channels_quantized<5, false>;
      case 6: return channels_quantized<6, false>;
      default: return channels_quantized<8, false>;
    }
  }();
  const int start = begin / kPanel * kPanel;
  float y[kPanel] = {};
  run(m, list, m.panel(start), m.panel_width(start), begin - start, (end - begin + kBlock - 1) / kBlock, y);
  std::memcpy(out, y, sizeof(float) * static_cast<size_t>(end - begin));
}
