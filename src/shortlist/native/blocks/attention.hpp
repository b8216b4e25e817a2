// Attention: queries over the keys and values of a sequence, which are the block's state, or another block's.
#pragma once
#include "blocks/rope.hpp"

namespace shortlist {

struct AttentionParts {
  int heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 1.0f;  // of products of query and key
  float norm_eps = 1e-5f;
  int window = 0;  // positions that a token sees, its own included; 0: all before it
  Linear q, k, v, o;
  Vector q_bias, k_bias, v_bias, o_bias;
  // Of queries and keys head by head, or over all heads together where they are that long; of values head by head.
  Vector q_norm, k_norm, v_norm;
  std::shared_ptr<ChannelInput> qkv_input, o_input;  // of matrices that lie by channel
  std::shared_ptr<Rope> rope;                        // null: queries and keys do not turn
};

class Attention : public Block {
 public:
  // Without k and v it attends to the keys and values of `source`. Throws std::invalid_argument where sizes do not fit.
  Attention(AttentionParts parts, std::shared_ptr<Attention> source);

  int width() const override { return static_cast<int>(p_.q.inputs()); }
  StateSize state_size() const override;
  Bytes bytes() const override;
  void reserve(Context& context) const override;
  void inner(Pass& pass, const Batch& x) override;
  void output(Pass& pass, float* out, const Rows* next) override;
  const Rows* first() const override { return p_.q.rows.get(); }
  std::vector<std::shared_ptr<Prelude>> preludes() const override;
  const Part* reads() const override { return source_.get(); }

 private:
  struct Scratch {
    explicit Scratch(const Sizes& sizes) : attended(static_cast<int>(sizes[0] * sizes[2])) {}
    Vector q, k, v;              // [tokens, heads, head_dim]
    Activations attended;
    std::vector<Vector> scores;  // of each member
    std::vector<Chosen> chosen;
  };
  Sizes sizes() const { return {p_.heads, p_.kv_heads, p_.head_dim}; }
  // Whether queries and keys are normed over all heads together, not head by head.
  bool wide_norms() const { return p_.q_norm.size() > static_cast<size_t>(p_.head_dim); }
  int cached() const { return source_ ? source_->state() : state(); }  // whose keys and values
  void check() const;
  void norm_wide(Pass& pass, Scratch& scratch) const;
  void turn_and_store(Pass& pass, Scratch& scratch) const;
  void attend(Pass& pass, Scratch& scratch) const;

  AttentionParts p_;
  std::shared_ptr<Attention> source_;
};

}  // namespace shortlist
