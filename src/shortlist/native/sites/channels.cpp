#include "sites/channels.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "pool/threads.hpp"

namespace shortlist {

namespace {

// The codes of one row, as packed by rows.cpp.
void row_codes(const RowsView& v, int64_t r, uint8_t* codes) {
  const uint8_t* nibbles = v.row(r);
  for (int c = 0; c < v.padded; c++) {
    const int at = c / kBlock * 32 + c % 32, shift = c % kBlock < 32 ? 0 : 4;
    int code = nibbles[at] >> shift & 15;
    if (v.format.bits == 8) code = code << 4 | (v.lower(r)[at] >> shift & 15);
    for (int plane = 0; plane < v.format.planes(); plane++)
      code |= (nibbles[v.padded / 2 + plane * v.padded / 8 + c / 8] >> c % 8 & 1) << (4 + plane);
    codes[c] = static_cast<uint8_t>(code);
  }
}

// Output `o` of a panel of w: its scales, minima and codes of all inputs.
void write_quantized(const ChannelsView& v, uint8_t* panel, int w, int o, const RowsView& rows, int64_t r, uint8_t* codes) {
  row_codes(rows, r, codes);
  const int block = o / kBlock, in_block = o % kBlock, place = channel_place(o % 32);
  for (int g = 0; g < v.groups(); g++) {
    uint8_t* group = panel + static_cast<size_t>(g) * v.group_bytes(w);
    std::memcpy(group + o * 2, rows.scales(r) + g, 2);
    if (v.format.minimum) std::memcpy(group + (w + o) * 2, rows.minima(r) + g, 2);
    uint8_t* to = group + v.header_bytes(w) + static_cast<size_t>(block) * v.channel_bytes(kBlock);
    for (int c = 0; c < v.group(); c++, to += v.channel_stride(w)) {
      const int code = codes[g * v.group() + c];
      if (v.format.bits == 8) {
        to[in_block / 32 * 32 + place] = static_cast<uint8_t>(code - v.format.offset());
        continue;
      }
      to[place] |= static_cast<uint8_t>((code & 15) << (in_block < 32 ? 0 : 4));
      for (int plane = 0; plane < v.format.bits - 4; plane++)
        to[32 + plane * 8 + in_block % 8] |= static_cast<uint8_t>((code >> (4 + plane) & 1) << in_block / 8);
    }
  }
}

void write_floats(const ChannelsView& v, uint8_t* panel, int w, int o, const RowsView& rows, int64_t r) {
  const size_t size = static_cast<size_t>(v.format.bits / 8);
  for (int c = 0; c < v.inputs; c++) std::memcpy(panel + static_cast<size_t>(c) * v.channel_stride(w) + static_cast<size_t>(o) * size,
      rows.row(r) + static_cast<size_t>(c) * size, size);
}

}  // namespace

Channels::Channels(const Rows& rows, Arena& arena) {
  if (rows.view.tiled) throw std::invalid_argument("channels are taken over from rows without tiles");
  view.format = rows.view.format;
  const Format& f = view.format;
  if (f.quantized() && (f.scale != Scale::F16 || f.bits < 4 || f.looked_up()))
    throw std::invalid_argument("matrices of format " + f.name() +
        " are not stored by input channel: leave their layers out of the recipe");
  view.outputs = static_cast<int>(rows.view.rows);
  view.padded_outputs = (view.outputs + kBlock - 1) / kBlock * kBlock;
  view.inputs = rows.view.cols;
  block_ = arena.take(view.stored_bytes());
  view.data = block_.data;
  Pool::instance().run([&](Team& team) {
    std::vector<uint8_t> codes(static_cast<size_t>(rows.view.padded));
    const auto share = team.share(view.outputs, kBlock);  // so that no two members write to one byte
    for (int64_t r = share.begin; r < share.end; r++) {
      const int first = static_cast<int>(r) / kPanel * kPanel, w = view.panel_width(first), o = static_cast<int>(r) - first;
      uint8_t* panel = const_cast<uint8_t*>(view.panel(first));
      if (view.format.kind == Kind::Quantized)
        write_quantized(view, panel, w, o, rows.view, r, codes.data());
      else
        write_floats(view, panel, w, o, rows.view, r);
    }
  });
}

void ChannelList::begin(const Batch& input, int inputs, int granule_) {
  granule = granule_;
  count = groups = 0;
  const size_t granules = static_cast<size_t>((inputs + granule - 1) / granule),
      quads = static_cast<size_t>(input.padded) / kTogetherInputs;
  starts.assign(1, 0);
  starts.reserve(granules + 1);
  d.clear(), sums.clear();
  channels.resize(quads * kTogetherInputs), x.resize(quads * kTogetherInputs), q.resize(quads);
}

void ChannelList::add_granule(const Batch& input, int first, int last, const uint8_t* listed) {
  const size_t begin = static_cast<size_t>(starts.back()) * kTogetherInputs;
  size_t at = begin;
  int8_t* codes = reinterpret_cast<int8_t*>(q.data());
  int32_t sum = 0;
  for (int i = first; i < last; i++) {  // without a branch, as what is listed cannot be predicted
    channels[at] = static_cast<uint8_t>(i % 32);
    codes[at] = input.q[i];
    x[at] = input.x[i];
    sum += listed[i - first] ? input.q[i] : 0;
    at += listed[i - first];
  }
  count += static_cast<int64_t>(at - begin);
  groups += at > begin;
  for (; at % kTogetherInputs; at++) channels[at] = channels[at - 1], codes[at] = 0, x[at] = 0.0f;
  starts.push_back(static_cast<int32_t>(at / kTogetherInputs));
  sums.push_back(sum);
  d.push_back(input.d16[first / 16]);
}

void ChannelShortlist::list(const Batch& x, int inputs, ChannelList& listed, ChannelList* others) const {
  listed.begin(x, inputs, granule);
  if (others) others->begin(x, inputs, 32);
  uint8_t in[32], out[32];
  for (int first = 0; first < inputs; first += 32) {
    const int n = std::min(32, inputs - first);
    for (int i = 0; i < n; i++) {
      const float score = std::fabs(x.x[first + i]) * (norms.empty() ? 1.0f : norms[static_cast<size_t>(first + i)]);
      in[i] = !(score < threshold);
      out[i] = !in[i];
    }
    for (int at = 0; at < n; at += granule) listed.add_granule(x, first + at, first + std::min(n, at + granule), in + at);
    if (others) others->add_granule(x, first, first + n, out);
  }
}

}  // namespace shortlist
