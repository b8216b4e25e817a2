#include "blocks/shared_router.hpp"

#include <algorithm>
#include <utility>

#include "kernels/kernels.hpp"

namespace shortlist {

SharedRouter::SharedRouter(Matrix project, Vector decay, Matrix up, Vector up_bias, Matrix down, Vector down_bias)
    : project_(std::move(project)), up_(std::move(up)), down_(std::move(down)), decay_(std::move(decay)), up_bias_(std::move(up_bias)),
      down_bias_(std::move(down_bias)) {
  if (!project_ || !up_ || !down_) throw std::invalid_argument("a router needs its three matrices");
  if (decay_.empty() || down_bias_.empty()) throw std::invalid_argument("a router needs a rank and experts");
  check_matrix({project_}, rank(), width(), "router_project");
  check_matrix({up_}, rank(), 2 * rank(), "router_up");
  check_vector(up_bias_, rank(), "router_up_bias");
  check_matrix({down_}, static_cast<int64_t>(down_bias_.size()), rank(), "router_down");
}

SharedRouter::Scratch::Scratch(const Sizes& sizes)
    : embedded(static_cast<int>(sizes[0])), remembered(static_cast<int>(2 * sizes[1])), hidden(static_cast<int>(sizes[1])),
      scores(static_cast<size_t>(sizes[2])) {
  for (Activations* each : {&embedded, &remembered, &hidden}) each->reserve(1);
}

StateSize SharedRouter::state_size() const {
  StateSize size;
  size.rows = 1;
  size.values = rank();
  size.exact = true;
  return size;
}

void SharedRouter::prepare(Context& context) {
  Scratch& scratch = context.make<Scratch>(sizes());
  scratch.route.resize(context.places.size());
  for (size_t t = 0; t < context.places.size(); t++) {
    const auto [cache, position] = context.places[t];
    auto averages = [&, cache = cache](int64_t at) { return reinterpret_cast<float*>(cache->row(state(), 0, at)); };
    scratch.route[t] = choose(scratch, *context.embedding, context.tokens[t], position ? averages(position - 1) : nullptr, averages(position));
  }
}

static void multiply(const Matrix& matrix, const Activations& x, float* out) {
  kernels().gemm(matrix->view, x.batch(1), 0, matrix->view.rows, out, static_cast<size_t>(matrix->view.rows));
}

int32_t SharedRouter::choose(Scratch& s, const Rows& embedding, int64_t token, const float* before, float* after) const {
  const int n = rank();
  unpack_row(embedding.view, token, s.embedded.x(0));
  float* p = s.remembered.x(0);
  multiply(project_, s.embedded, p);
  for (int i = 0; i < n; i++) {
    const float decay = decay_[static_cast<size_t>(i)];
    after[i] = decay * (before ? before[i] : 0.0f) + (1.0f - decay) * p[i];
  }
  std::copy_n(after, n, p + n);
  float* hidden = s.hidden.x(0);
  multiply(up_, s.remembered, hidden);
  for (int i = 0; i < n; i++) {
    const float value = hidden[i] + up_bias_[static_cast<size_t>(i)];
    hidden[i] = value < 0.0f ? 0.0f : value;  // NaN stays NaN
  }
  multiply(down_, s.hidden, s.scores.data());
  kernels().add(down_bias_.data(), experts(), s.scores.data());
  if (!all_finite(s.scores.data(), experts())) throw NotFinite("the router that all mixtures share computes scores that are not finite numbers");
  return static_cast<int32_t>(std::max_element(s.scores.begin(), s.scores.end()) - s.scores.begin());
}

}  // namespace shortlist
