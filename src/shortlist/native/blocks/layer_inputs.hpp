// An input of its own for every layer, looked up by token (per-layer embeddings, Gemma 3n): a row of a second embedding table,
// plus a projection of the token's embedding.
//
//   input = (sqrt(size) table[token] + norm(projection embedding / sqrt(width))) / sqrt(2)      [layers, size]
//
// What a layer computed opens a gate for its input, and the result joins the residual streams:
//
//   norm(up (activation(gate x) * input))
#pragma once
#include "blocks/block.hpp"
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
  void reserve(Context& context) const;
  void check(const LayerInput& layer) const;
  int layers() const { return static_cast<int>(table_->view.cols) / size_; }
  Bytes bytes() const { return {table_->bytes() + projection_->bytes(), projection_->bytes(), 0, 0}; }

  // The inputs of all layers, from the tokens and their embeddings.
  void look_up(Pass& pass, const Batch& embedded) const;
  // What joins the streams after layer `index`, for x of every token, before its norm: [tokens, width]. Ends with a barrier.
  const float* apply(Pass& pass, const LayerInput& layer, int index, Activation activation, const Batch& x) const;

 private:
  struct Scratch {
    explicit Scratch(const Sizes& sizes) : narrow(static_cast<int>(sizes[0])) {}
    Activations narrow;
    Vector inputs, gated, wide;  // the first [tokens, layers, size]
    std::vector<Vector> rows;    // of the table, per member
  };
  Sizes sizes() const { return {size_}; }

  Matrix table_, projection_;
  Vector norm_;
  int width_, size_;
  float eps_;
};

}  // namespace shortlist
