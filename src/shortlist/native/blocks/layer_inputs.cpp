#include "blocks/layer_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/kernels.hpp"

namespace shortlist {

LayerInputs::LayerInputs(Matrix table, Matrix projection, Vector norm, int width, float eps)
    : table_(std::move(table)), projection_(std::move(projection)), norm_(std::move(norm)), width_(width), size_(static_cast<int>(norm_.size())), eps_(eps) {
  if (!table_ || !size_ || table_->view.cols % size_) throw std::invalid_argument("the table of layer inputs has the wrong shape");
  check_matrix({projection_}, table_->view.cols, width_, "layer_projection");
}

void LayerInputs::reserve(Context& context) const {
  Scratch& s = context.make<Scratch>(sizes());
  const size_t n = static_cast<size_t>(context.slots());
  s.narrow.reserve(context.slots());
  grow(s.inputs, n * static_cast<size_t>(table_->view.cols));
  grow(s.gated, n * static_cast<size_t>(size_));
  grow(s.wide, n * static_cast<size_t>(width_));
  s.rows.resize(std::max(s.rows.size(), static_cast<size_t>(context.members)));
}

void LayerInputs::check(const LayerInput& layer) const {
  check_matrix(layer.gate, size_, width_, "input_gate");
  check_matrix(layer.up, width_, size_, "input_up");
  check_vector(layer.norm, width_, "input_norm");
}

void LayerInputs::look_up(Pass& pass, const Batch& embedded) const {
  Scratch& s = pass.context.get<Scratch>(sizes());
  const size_t all = static_cast<size_t>(table_->view.cols);
  const float root = std::sqrt(static_cast<float>(size_)), half = std::sqrt(0.5f), shrink = 1.0f / std::sqrt(static_cast<float>(width_));
  multiply(pass.team, {projection_}, {embedded}, s.inputs.data(), all, nullptr);
  pass.team.barrier();
  Vector& row = s.rows[static_cast<size_t>(pass.team.id)];
  row.resize(all);
  const int32_t* tokens = pass.context.tokens;
  const auto share = pass.team.share(pass.context.count);
  for (int64_t t = share.begin; t < share.end; t++) {
    unpack_row(table_->view, tokens[t] < table_->view.rows ? tokens[t] : 0, row.data());
    for (int layer = 0; layer < layers(); layer++) {
      float* x = &s.inputs[static_cast<size_t>((t * layers() + layer) * size_)];
      const float* looked_up = row.data() + layer * size_;
      for (int i = 0; i < size_; i++) x[i] *= shrink;
      kernels().rms_norm(x, norm_.data(), size_, eps_, x);
      for (int i = 0; i < size_; i++) x[i] = (x[i] + root * looked_up[i]) * half;
    }
  }
}

const float* LayerInputs::apply(Pass& pass, const LayerInput& layer, int index, Activation activation, const Batch& x) const {
  Scratch& s = pass.context.get<Scratch>(sizes());
  const OwnTokens& own = pass.own;
  multiply(pass.team, layer.gate, {x}, s.gated.data(), static_cast<size_t>(size_), layer.up.rows.get());
  pass.team.barrier();
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    activate(activation, &s.gated[static_cast<size_t>(t * size_)], &s.inputs[static_cast<size_t>((t * layers() + index) * size_)], size_,
             s.narrow.x(own.slot(t)));
    s.narrow.quantize(own.slot(t));
  }
  own.barrier();
  multiply(pass.team, layer.up, {own.batch(s.narrow)}, s.wide.data(), static_cast<size_t>(width_), nullptr);
  pass.team.barrier();
  return s.wide.data();
}

}  // namespace shortlist
