// An input of its own for every layer, looked up by token (per-layer embeddings, Gemma 3n): a row of a second embedding table,
// plus a projection of the token's embedding.
//
//   input = (sqrt(size) table[token] + norm(projection embedding / sqrt(width))) / sqrt(2)      [layers, size]
//
// What a layer computed opens a gate for its input, and the result joins the residual streams:
//
//   norm(up (activation(gate x) * input))
#pragma once
#include "blocks/linear.hpp"
#include "sites/neurons.hpp"

namespace shortlist {

struct LayerInput {
  Linear gate, up;  // [size, width], [width, size]
  Vector norm;
};

class LayerInputs {
 public:
  // `table` is [tokens, layers * size]; a token beyond it takes row 0. `projection` is [layers * size, width], `norm` [size].
  // Throws std::invalid_argument where they do not fit.
  LayerInputs(Matrix table, Matrix projection, Vector norm, int width, float eps);
  void reserve(int slots, int members);
  void check(const LayerInput& layer) const;
  int layers() const { return static_cast<int>(table_->view.cols) / size_; }

  // The inputs of all layers, from the tokens and their embeddings.
  void look_up(const OwnTokens& own, const int32_t* tokens, const Batch& embedded);
  // What joins the streams after layer `index`, for x of every token, through of(). Ends with a barrier.
  void apply(const OwnTokens& own, const LayerInput& layer, int index, Activation activation, const Batch& x);
  const float* of(int64_t token) const { return &wide_[static_cast<size_t>(token) * static_cast<size_t>(width_)]; }  // before the norm

 private:
  float* input(int64_t token, int layer) { return &inputs_[static_cast<size_t>((token * layers() + layer) * size_)]; }

  Matrix table_, projection_;
  Vector norm_;
  int width_, size_;
  float eps_;
  Activations narrow_;
  Vector inputs_, gated_, wide_;
  std::vector<Vector> rows_;  // of the table, per member
};

}  // namespace shortlist
