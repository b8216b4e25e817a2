// One router for all mixtures of a model, which reads nothing but tokens: a token's expert is known before the first layer (Read-ME,
// https://arxiv.org/abs/2410.19123). With e_t the embedding row of token t, and averages s_t that fade at fixed rates,
//
//   p_t    = project e_t                                       [rank]
//   s_t    = decay * s_(t-1) + (1 - decay) * p_t               [rank], from zeros
//   scores = down relu(up [p_t, s_t] + up_bias) + down_bias    [experts]
//
// The cache keeps s of every position, so that a text can be cut anywhere, as with keys and values.
#pragma once
#include "blocks/linear.hpp"

namespace shortlist {

class SharedRouter {
 public:
  // Throws std::invalid_argument where sizes do not fit.
  SharedRouter(Matrix project, Vector decay, Matrix up, Vector up_bias, Matrix down, Vector down_bias);

  int width() const { return project_->view.cols; }
  int rank() const { return static_cast<int>(decay_.size()); }
  int experts() const { return static_cast<int>(down_->view.rows); }
  // The expert of a token after a text whose averages are `before`, null if it is empty; writes those after the token. Cheap enough
  // for one thread: 50,000 products where a token of a small model takes 10^8.
  int32_t choose(const Rows& embedding, int64_t token, const float* before, float* after);

 private:
  Matrix project_, up_, down_;
  Vector decay_, up_bias_, down_bias_;
  Activations embedded_, remembered_, hidden_;
  Vector scores_;
};

}  // namespace shortlist
