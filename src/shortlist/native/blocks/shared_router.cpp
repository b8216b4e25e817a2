#include "blocks/shared_router.hpp"

#include <algorithm>
#include <utility>

#include "kernels/kernels.hpp"

namespace shortlist {

SharedRouter::SharedRouter(Matrix project, Vector decay, Matrix up, Vector up_bias, Matrix down, Vector down_bias)
    : project_(std::move(project)), up_(std::move(up)), down_(std::move(down)), decay_(std::move(decay)), up_bias_(std::move(up_bias)),
      down_bias_(std::move(down_bias)), embedded_(width()), remembered_(2 * rank()), hidden_(rank()) {
  if (decay_.empty() || down_bias_.empty()) throw std::invalid_argument("a router needs a rank and experts");
  check_matrix({project_}, rank(), width(), "router_project");
  check_matrix({up_}, rank(), 2 * rank(), "router_up");
  check_vector(up_bias_, rank(), "router_up_bias");
  check_matrix({down_}, static_cast<int64_t>(down_bias_.size()), rank(), "router_down");
  for (Activations* each : {&embedded_, &remembered_, &hidden_}) each->reserve(1);
  scores_.resize(down_bias_.size());
}

static void multiply(const Matrix& matrix, const Activations& x, float* out) {
  kernels().gemm(matrix->view, x.batch(1), 0, matrix->view.rows, out, static_cast<size_t>(matrix->view.rows));
}

int32_t SharedRouter::choose(const Rows& embedding, int64_t token, const float* before, float* after) {
  const int n = rank();
  unpack_row(embedding.view, token, embedded_.x(0));
  float* p = remembered_.x(0);
  multiply(project_, embedded_, p);
  for (int i = 0; i < n; i++) {
    const float decay = decay_[static_cast<size_t>(i)];
    after[i] = decay * (before ? before[i] : 0.0f) + (1.0f - decay) * p[i];
  }
  std::copy_n(after, n, p + n);
  float* hidden = hidden_.x(0);
  multiply(up_, remembered_, hidden);
  for (int i = 0; i < n; i++) {
    const float value = hidden[i] + up_bias_[static_cast<size_t>(i)];
    hidden[i] = value < 0.0f ? 0.0f : value;  // NaN stays NaN
  }
  multiply(down_, hidden_, scores_.data());
  kernels().add(down_bias_.data(), experts(), scores_.data());
  if (!all_finite(scores_.data(), experts())) throw NotFinite("the router that all mixtures share computes scores that are not finite numbers");
  return static_cast<int32_t>(std::max_element(scores_.begin(), scores_.end()) - scores_.begin());
}

}  // namespace shortlist
