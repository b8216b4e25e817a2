// One router for all mixtures of a model, which reads nothing but tokens: a token's expert is known before the first layer (Read-ME,
// https://arxiv.org/abs/2410.19123). With e_t the embedding row of token t, and averages s_t that fade at fixed rates,
//
//   p_t    = project e_t                                       [rank]
//   s_t    = decay * s_(t-1) + (1 - decay) * p_t               [rank], from zeros
//   scores = down relu(up [p_t, s_t] + up_bias) + down_bias    [experts]
//
// Its state keeps s of every position, so that a text can be cut anywhere, as with keys and values.
#pragma once
#include "blocks/block.hpp"

namespace shortlist {

class SharedRouter : public Prelude {
 public:
  // Throws std::invalid_argument where sizes do not fit.
  SharedRouter(Matrix project, Vector decay, Matrix up, Vector up_bias, Matrix down, Vector down_bias);

  int width() const { return project_->view.cols; }
  int rank() const { return static_cast<int>(decay_.size()); }
  int experts() const { return static_cast<int>(down_->view.rows); }
  StateSize state_size() const override;
  Bytes bytes() const override { return Bytes::whole(project_->bytes() + up_->bytes() + down_->bytes()); }
  // Cheap enough for one thread: 50,000 products where a token of a small model takes 10^8.
  void prepare(Context& context) override;
  // The tokens' experts, [tokens].
  const int32_t* route(const Context& context) const { return context.get<Scratch>(sizes()).route.data(); }

 private:
  struct Scratch {
    explicit Scratch(const Sizes& sizes);
    Activations embedded, remembered, hidden;
    Vector scores;
    std::vector<int32_t> route;
  };
  Sizes sizes() const { return {width(), rank(), experts()}; }
  // The expert of a token after a text whose averages are `before`, null if it is empty; writes those after the token.
  int32_t choose(Scratch& scratch, const Rows& embedding, int64_t token, const float* before, float* after) const;

  Matrix project_, up_, down_;
  Vector decay_, up_bias_, down_bias_;
};

}  // namespace shortlist
