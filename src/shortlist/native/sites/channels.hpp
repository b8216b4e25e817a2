// Matrices stored by input channel, so that the bytes of a channel that is off the shortlist are not read.
//
// A quantized matrix keeps its codes, scales and minima: the same numbers as in rows.hpp, in another order. Outputs lie in
// panels of 4096 (the last one is what remains, a multiple of 64): a channel is read in runs of 2 KB or more, as memory does not
// give short runs here and there any faster than everything. In a panel of w outputs, inputs follow in groups that
// share scales:
//
//   group:  scales, float16 [w] | minima, likewise | codes of its first channel, [w] | codes of its second channel | ...
//
// Codes of 64 outputs of a channel (a block) lie together. Those of 8 bits are two runs of 32 signed bytes. Of 4 to 6 bits, 32 bytes
// hold the nibbles, outputs 0-31 in the low halves and outputs 32-63 in the high ones; then follow 8 bytes for bit 4, and 8 for bit
// 5, in which bit k of byte j is that of output 8 k + j. Each run of 32 lies in the order of channel_place(), so that four
// channels interleaved give outputs in their order, and so do their 8 bytes of bits. Floats have neither scales nor that order, and
// count as groups of 32.
#pragma once
#include <memory>
#include <vector>

#include "formats/rows.hpp"

namespace shortlist {

constexpr int kPanel = 4096;         // outputs
constexpr int kTogetherInputs = 4;   // channels that kernels take at a time, a quad

// Where the code of output o of 32 lies: 8-output registers of interleaved quads take bytes 0-3 of each half of 16.
constexpr int channel_place(int o) { return o % 8 / 4 * 16 + o / 8 * 4 + o % 4; }

struct ChannelsView {
  Format format;
  int outputs = 0, padded_outputs = 0;  // the second a multiple of kBlock
  int inputs = 0;
  const uint8_t* data = nullptr;

  int group() const { return format.group ? format.group : 32; }
  int groups() const { return (inputs + group() - 1) / group(); }
  // Of w outputs, a multiple of kBlock.
  size_t header_bytes(int w) const { return format.group ? static_cast<size_t>(w) * 2 * (format.minimum ? 2 : 1) : 0; }
  size_t channel_bytes(int w) const { return static_cast<size_t>(w) * static_cast<size_t>(format.bits) / 8; }
  // From a channel to the next: not a power of two, or the channels of a group would push each other out of the cache.
  size_t channel_stride(int w) const { return channel_bytes(w) + (channel_bytes(w) % 1024 ? 0 : 64); }
  size_t group_bytes(int w) const { return header_bytes(w) + static_cast<size_t>(group()) * channel_stride(w); }
  size_t panel_bytes(int w) const { return static_cast<size_t>(groups()) * group_bytes(w); }

  int panel_width(int first) const { return padded_outputs - first < kPanel ? padded_outputs - first : kPanel; }
  // first: a multiple of kPanel
  const uint8_t* panel(int first) const { return data + static_cast<size_t>(first / kPanel) * panel_bytes(kPanel); }
  size_t stored_bytes() const {
    return static_cast<size_t>(padded_outputs / kPanel) * panel_bytes(kPanel) + panel_bytes(padded_outputs % kPanel);
  }
  // What a product with all channels reads.
  size_t bytes() const {
    return static_cast<size_t>(groups()) * header_bytes(padded_outputs) + static_cast<size_t>(inputs) * channel_bytes(padded_outputs);
  }
};

class Channels {
 public:
  // Takes a matrix over from rows without tiles. Throws std::invalid_argument otherwise.
  Channels(const Rows& rows, Arena& arena);
  ChannelsView view;

 private:
  Allocation block_;
};

// The channels of one input that are read, ascending, in quads that stay within `granule` channels. A quad that is not full
// repeats a channel with zeros.
struct ChannelList {
  int granule = 32;
  int64_t count = 0, groups = 0;   // channels listed, and granules with one of them
  std::vector<int32_t> starts;     // first quad of each granule, and the end
  std::vector<uint8_t> channels;   // [quads, 4], modulo 32
  std::vector<int32_t> q;          // [quads] of four codes each, as in Batch
  std::vector<float> x;            // [quads, 4]
  std::vector<float> d;            // per granule: x = d * q
  std::vector<int32_t> sums;       // per granule: of its listed q

  void begin(const Batch& x, int inputs, int granule);
  // Room for all that begin() was told.
  void add_granule(const Batch& x, int first, int last, const uint8_t* listed);
};

// Which channels a product reads: those with |x_i| (times their weights' norm) at or above the threshold.
struct ChannelShortlist {
  std::vector<float> norms;  // empty: |x_i| alone
  float threshold = 0.0f;
  int granule = 32;          // the smallest group of the matrices

  // One input [inputs] into its list, and the other channels into `others` where it is given. What is not a number is listed.
  void list(const Batch& x, int inputs, ChannelList& listed, ChannelList* others) const;
};

}  // namespace shortlist
