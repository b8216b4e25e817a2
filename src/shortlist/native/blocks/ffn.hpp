// Feed-forward blocks: down(activation(gate x) * up x), or down(activation(up x)) without a gate; dense, or only the neurons on a
// shortlist.
#pragma once
#include <optional>

#include "blocks/block.hpp"
#include "sites/neurons.hpp"

namespace shortlist {

struct FfnParts {
  Linear gate, up, down;
  Vector gate_bias, up_bias, down_bias;
  std::shared_ptr<ChannelInput> gate_up_input, down_input;  // of matrices that lie by channel
  Activation activation = Activation::SiLU;
  std::optional<float> cutoff;  // of gates, see statistical_cutoff; what lies below it is an exact zero
};

// All neurons.
class Ffn : public Block {
 public:
  // Throws std::invalid_argument where sizes do not fit.
  explicit Ffn(FfnParts parts);
  int width() const override { return static_cast<int>(p_.up.inputs()); }
  Bytes bytes() const override;
  void reserve(Context& context) const override;
  void inner(Pass& pass, const Batch& x) override;
  void output(Pass& pass, float* out, const Rows* next) override;
  const Rows* first() const override { return p_.gate ? p_.gate.rows.get() : p_.up.rows.get(); }

 private:
  struct Scratch {
    explicit Scratch(const Sizes& sizes) : hidden(static_cast<int>(sizes[0])) {}
    Vector gate, up, cutoffs;  // the last by slot
    Activations hidden;
    std::vector<Chosen> chosen;
  };
  int neurons() const { return static_cast<int>(p_.up.outputs()); }
  Sizes sizes() const { return {neurons()}; }
  void activate_share(Pass& pass, Scratch& scratch, Team::Range share) const;

  FfnParts p_;
};

// Only the neurons that the scores of a token leave.
class NeuronFfn : public Block {
 public:
  // Throws std::invalid_argument where sizes do not fit, or where neurons cannot be left out.
  NeuronFfn(ShortlistedFfn ffn, Activation activation, std::optional<float> cutoff);
  int width() const override { return ffn_.neurons->down.cols; }
  Bytes bytes() const override;
  void reserve(Context& context) const override;
  void inner(Pass& pass, const Batch& x) override;
  void output(Pass& pass, float* out, const Rows* next) override;
  const Rows* first() const override { return ffn_.scores.get(); }
  int64_t neurons() const { return ffn_.neurons->count(); }
  int64_t neurons_read() const { return neurons_read_; }  // whose rows were read, all tokens so far

 private:
  struct Scratch {
    explicit Scratch(const Sizes&) {}
    Vector gate, up;
    std::vector<int32_t> listed;  // neurons, [slots, neurons]
    std::vector<int64_t> counts;  // of them, [slots]
  };
  Sizes sizes() const { return {neurons()}; }
  void list(Pass& pass, Scratch& scratch, const Batch& x) const;

  ShortlistedFfn ffn_;
  Activation activation_;
  std::optional<float> cutoff_;
  int64_t neurons_read_ = 0;
};

}  // namespace shortlist
