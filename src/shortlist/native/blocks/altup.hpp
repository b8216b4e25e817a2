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

class AltUp : public Streams {
 public:
  // `expand` and `merge`, [width, width] each, split the embedding into streams, and merge them back at the end. Throws
  // std::invalid_argument where sizes do not fit.
  AltUp(int width, int active, float eps, Activation activation, std::vector<Matrix> expand, std::vector<Matrix> merge, LayerInputs inputs,
        std::vector<AltUpLayer> layers);
  int width() const override { return width_; }
  int layers() const override { return static_cast<int>(layers_.size()); }
  Bytes bytes() const override;
  void reserve(Context& context) const override;
  void start(Pass& pass) const override;
  // Predicts the streams; the active one goes to the residual stream, for the layer to work on.
  void before(Pass& pass, int layer) const override;
  // Corrects the streams by what the layer has computed, and adds the layer's own input.
  void after(Pass& pass, int layer) const override;
  void finish(Pass& pass) const override;

 private:
  struct Scratch {
    explicit Scratch(const Sizes& sizes) : width(sizes[0]), count(sizes[1]), x(static_cast<int>(sizes[0])) {}
    float* stream(int slot, int s) { return &streams[static_cast<size_t>((slot * count + s) * width)]; }
    // The product of one of `expand` or `merge`, for stream s of a token.
    float* product(int64_t token, int s) { return &products[static_cast<size_t>((token * (count - 1) + s - 1) * width)]; }
    const int64_t width, count;
    Activations x;
    Vector streams, products;
  };
  Sizes sizes() const { return {width_, count_}; }
  Scratch& scratch(const Pass& pass) const { return pass.context.get<Scratch>(sizes()); }
  void check(const AltUpLayer& layer) const;
  void route(const AltUpLayer& layer, const float* x, float* modes) const;

  int width_, count_, active_;
  float eps_;
  Activation activation_;
  std::vector<Matrix> expand_, merge_;
  LayerInputs inputs_;
  std::vector<AltUpLayer> layers_;
};

}  // namespace shortlist
