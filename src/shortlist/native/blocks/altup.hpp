// Alternating updates (AltUp: https://arxiv.org/abs/2301.13310), as Gemma 3n has them: several residual streams, of which a layer computes
// the active one. The others are predicted before it and corrected after it by how far the prediction was off:
//
//   m = tanh(router norm(active))                        per token, [streams]
//   predicted[s] = stream[s] + sum_i predict[s, i](m) stream[i]
//   stream[s] = predicted[s] + (1 + correct[s](m')) (computed - predicted[active]),  m' from what was computed
//
// where predict(m) and correct(m) are linear in m. Then the layer's own input joins all streams but the first (layer_inputs.hpp).
#pragma once
#include <vector>

#include "blocks/layer_inputs.hpp"

namespace shortlist {

struct AltUpLayer {
  Vector router;   // [streams, width], times the norm's weight / width
  Vector predict;  // [streams * streams, streams]
  Vector correct;  // [streams, streams]
  Vector scale;    // [width]: of the active stream, where it meets the layer's input
  LayerInput input;
};

class AltUp {
 public:
  // `expand` and `merge`, [width, width] each, make the streams beyond the first from the embedding, and one of all again.
  // Throws std::invalid_argument where they do not fit.
  AltUp(int width, int active, float eps, std::vector<Matrix> expand, std::vector<Matrix> merge, LayerInputs inputs);
  void reserve(int slots, int members);
  // Throws std::invalid_argument where a tensor of layer `index` is missing or has another shape.
  void check(const AltUpLayer& layer, int index) const;

  // All streams of the tokens from their embeddings, [slots, width].
  void start(const OwnTokens& own, const int32_t* tokens, const float* residual);
  // Predicts the streams; the active one goes to `residual`, for the layer to work on.
  void before(const OwnTokens& own, const AltUpLayer& layer, float* residual);
  // Corrects the streams by `residual`, which the layer has computed, and adds the layer's own input.
  void after(const OwnTokens& own, const AltUpLayer& layer, int index, Activation activation, const float* residual);
  // All streams as one, in `residual`.
  void finish(const OwnTokens& own, float* residual);

 private:
  float* stream(int slot, int s) { return &streams_[(static_cast<size_t>(slot) * static_cast<size_t>(count_) + static_cast<size_t>(s)) * static_cast<size_t>(width_)]; }
  // The product of one of `expand` or `merge`, for stream s of a token.
  float* product(int64_t token, int s) { return &products_[static_cast<size_t>((token * (count_ - 1) + s - 1) * width_)]; }
  void route(const AltUpLayer& layer, const float* x, float* modes) const;

  int width_, count_, active_;
  float eps_;
  std::vector<Matrix> expand_, merge_;
  LayerInputs inputs_;
  Activations x_;
  Vector streams_, products_;
};

}  // namespace shortlist
