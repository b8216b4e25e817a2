// The parts that a decoder is made of. A layer is a list of residual branches; a branch norms the residual stream, hands it to a
// block, or to several in parallel, and adds what they make of it. A block runs, counts its bytes, and owns its state of a sequence.
#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "blocks/context.hpp"
#include "pool/threads.hpp"

namespace shortlist {

// What a member of the team works on during a forward pass.
struct Pass {
  Pass(Team& team, Context& context) : team(team), context(context), own(team, context.count) {}
  Team& team;
  Context& context;
  const OwnTokens own;
  // The residual stream of a token, [width].
  float* residual(int64_t token) { return context.residual.data() + static_cast<int64_t>(own.slot(token)) * context.width; }
};

// Bytes of weights.
struct Bytes {
  size_t packed = 0;   // all of them
  size_t always = 0;   // that every token reads
  size_t most = 0;     // that a token reads at most beside them, of units that it chooses
  int64_t chosen = 0;  // read of such units so far, by all tokens

  static Bytes whole(size_t bytes) { return {bytes, bytes, 0, 0}; }
  Bytes& operator+=(const Bytes& other) {
    packed += other.packed, always += other.always, most += other.most, chosen += other.chosen;
    return *this;
  }
};

inline Bytes channel_bytes(const ChannelInput& input) {
  const size_t all = static_cast<size_t>(input.all_bytes());
  return {all, 0, all, input.bytes_read};
}

// A part of one decoder, which may keep a state of each sequence.
class Part {
 public:
  virtual ~Part() = default;
  virtual StateSize state_size() const { return {}; }
  virtual Bytes bytes() const { return {}; }
  // Before a job: memory for what the members of its team write.
  virtual void reserve(Context&) const {}
  bool joined() const { return joined_; }
  int state() const { return state_; }  // the number of its state in a cache
  // It is part of a decoder from here on; `state` numbers what state_size() declares.
  void join(int state) {
    joined_ = true;
    state_ = state;
  }

 private:
  bool joined_ = false;
  int state_ = -1;
};

// What several blocks need and tokens and positions alone decide: the angles of RoPE, a router for all layers. It is computed once
// for each pass, before the first layer.
class Prelude : public Part {
 public:
  // On the thread that calls, before there is a team.
  virtual void prepare(Context&) {}
  // What one member does. Others may read it after the next barrier.
  virtual void start(Pass&) {}
};

class Block : public Part {
 public:
  // Of what it reads and of what it makes.
  virtual int width() const = 0;
  // What one member does. First from the normed inputs, one for each token, to the inputs of the last product; then, after a barrier,
  // the outputs [tokens, width]. Another barrier follows before they are read. `next` is what is read then, and may be fetched.
  virtual void inner(Pass& pass, const Batch& x) = 0;
  virtual void output(Pass& pass, float* out, const Rows* next) = 0;
  // What it reads first; null where the token says.
  virtual const Rows* first() const { return nullptr; }
  virtual std::vector<std::shared_ptr<Prelude>> preludes() const { return {}; }
  // Another block whose state it reads; null: none.
  virtual const Part* reads() const { return nullptr; }
};

// residual = (residual + scale * sum of blocks(norm(residual))) * sum_scale
struct Branch {
  // One of the blocks in parallel, and the norm of what it makes. With `input` its normed input is added too.
  struct Member {
    std::shared_ptr<Block> block;
    Vector norm;
    bool input = false;
  };
  Vector norm;  // empty: blocks read the residual stream as it is
  std::vector<Member> members;
  float scale = 1.0f, sum_scale = 1.0f;
};

using Layer = std::vector<Branch>;

// How several residual streams are combined around layers, which compute one of them: Context::residual, [slots, width].
class Streams {
 public:
  virtual ~Streams() = default;
  virtual int width() const = 0;
  virtual int layers() const = 0;  // that it has weights for
  virtual Bytes bytes() const = 0;
  virtual void reserve(Context&) const = 0;
  // What one member does: all streams from the embedding, around each layer, and one stream of all.
  virtual void start(Pass&) const = 0;
  virtual void before(Pass&, int layer) const = 0;
  virtual void after(Pass&, int layer) const = 0;
  virtual void finish(Pass&) const = 0;
};

}  // namespace shortlist
