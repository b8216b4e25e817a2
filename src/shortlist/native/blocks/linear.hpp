// Linear layers of a decoder: the vectors that come in, and matrices by row, or by input channel where only some are read.
#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "sites/channels.hpp"
#include "pool/threads.hpp"

namespace shortlist {

using Matrix = std::shared_ptr<Rows>;
using Vector = std::vector<float>;  // empty: the model does not have it

constexpr int64_t kGrain = 32;  // rows: whole tiles of any instruction set, and a group of what the rows' values are quantized to

// Vectors that a matrix is about to be multiplied with: floats, and their int8 form.
class Activations {
 public:
  explicit Activations(int width) : width_(width), padded_((width + kBlock - 1) / kBlock * kBlock) {}
  Activations(const float* vectors, int count, int width);  // [count, width], ready to multiply with
  void reserve(int tokens);
  float* x(int token) { return x_.data() + static_cast<size_t>(token) * padded_; }
  void quantize(int token) { quantize(token, 0, width_); }
  void quantize(int token, int64_t begin, int64_t end);  // columns from a multiple of 32 to another, or to the last
  void copy(const Batch& from, int token);  // the first of a batch of this width, as it is
  Batch batch(int tokens) const;

 private:
  int width_, padded_, tokens_ = 0;
  std::vector<float> x_, d32_, d16_, s32_, s16_, l1_, n32_;
  std::vector<int8_t> q_;
};

// The tokens that one member works on where work goes token by token. One token is too little to share out: every member does
// all of it on a copy of its own, in the slot of its number, and none waits for another.
struct OwnTokens {
  OwnTokens(Team& team, int count) : team(team), count(count), alone(count == 1), mine(alone ? Team::Range{0, 1} : team.share(count)) {}

  Team& team;
  const int count;
  const bool alone;
  const Team::Range mine;
  int slot(int64_t token) const { return static_cast<int>(alone ? team.id : token); }
  // Before other members read what was written for these tokens.
  void barrier() const {
    if (!alone) team.barrier();
  }
  // All tokens, as this member finds them.
  Batch batch(const Activations& x) const { return alone ? x.batch(team.size).token(team.id) : x.batch(count); }
};

struct Linear {
  Matrix rows;
  std::shared_ptr<Channels> channels = nullptr;  // in place of rows
  Matrix rest = nullptr;                         // with channels: [outputs, rank], see ChannelInput::rest

  explicit operator bool() const { return rows || channels; }
  int64_t outputs() const { return rows ? rows->view.rows : channels->view.outputs; }
  int64_t inputs() const { return rows ? rows->view.cols : channels->view.inputs; }
  size_t bytes() const { return rows ? rows->bytes() : 0; }  // those of channels are counted with their input
};

// What one token reads of the matrices that share an input.
struct Chosen {
  ChannelList listed, others;
  std::optional<Activations> coordinates;  // of the others, [rank]
};

// The shortlist of the matrices by channel that share an input. With `rest` [rank, inputs] the channels that are not listed go
// through it and then through Linear::rest, which add up to a low-rank form of the matrices (R-Sparse).
class ChannelInput {
 public:
  ChannelShortlist shortlist;
  std::shared_ptr<Channels> rest;
  int64_t channels_read = 0, bytes_read = 0;  // all tokens so far
  // Inputs [tokens, inputs] are kept from here on, and given out.
  void record();
  std::vector<float> recorded();

  // Takes up the matrices, which share out what one channel and one group cost. Throws std::invalid_argument where they
  // do not fit, or where it has matrices already.
  void serve(const std::vector<const Linear*>& matrices);
  int inputs() const { return inputs_; }
  int64_t channel_bytes() const { return channel_bytes_; }
  int64_t all_bytes() const { return channel_bytes_ * inputs_ + group_bytes_ * ((inputs_ + shortlist.granule - 1) / shortlist.granule) + rest_bytes_; }

  void choose(const Batch& x, Chosen& chosen) const;
  void count(const Batch& x, const Chosen& chosen);

 private:
  int inputs_ = 0;
  std::mutex kept_mutex_;  // a decoder adds to what is kept, while another thread may ask for it
  bool recording_ = false;
  std::vector<float> kept_;
  int64_t channel_bytes_ = 0, group_bytes_ = 0, rest_bytes_ = 0;
};

// The tokens' input of a layer. `chosen`, one for each token, is there where the matrices lie by channel.
struct Input {
  Batch x;
  const Chosen* chosen = nullptr;
};

// What each token reads of the matrices that share the input x; everything where there is no shortlist. `chosen` has room for the
// lists of every token, and of every member.
Input choose(Team& team, ChannelInput* input, const Batch& x, std::vector<Chosen>& chosen);

// This member's share of out[t, r] = row r . x_t (+ bias), stride floats between tokens. Returns the share. The first rows
// of the member's share of `next`, the matrix that comes after, are on their way to the cache when it returns.
Team::Range multiply(Team& team, const Linear& matrix, const Input& input, float* out, size_t stride, const Rows* next,
                     const Vector& bias = {});

// Sends the first of these rows, or of this member's share of a matrix, on their way to the cache.
void fetch_start(const Rows& rows, Team::Range share);
inline void fetch_start(Team& team, const Rows& rows) { fetch_start(rows, team.share(rows.view.rows, kGrain)); }

// Throw std::invalid_argument where a matrix or a vector of a layer is missing or of another size, or where a matrix lies by channel
// and its input has no shortlist of channels.
void check_matrix(const Linear& matrix, int64_t rows, int64_t cols, const char* name, const ChannelInput* input = nullptr);
void check_vector(const Vector& vector, int64_t size, const char* name);

}  // namespace shortlist
