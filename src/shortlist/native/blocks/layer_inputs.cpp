#include "blocks/layer_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/kernels.hpp"

namespace shortlist {

LayerInputs::LayerInputs(Matrix table, Matrix projection, Vector norm, int width, float eps)
    : table_(std::move(table)), projection_(std::move(projection)), norm_(std::move(norm)), width_(width), size_(static_cast<int>(norm_.size())), eps_(eps),
      narrow_(size_) {
  if (!table_ || !size_ || table_->view.cols % size_) throw std::invalid_argument("the table of layer inputs has the wrong shape");
  check_matrix({projection_}, table_->view.cols, width_, "layer_projection");
}

void LayerInputs::reserve(int slots, int members) {
  narrow_.reserve(slots);
  const size_t n = static_cast<size_t>(slots), all = static_cast<size_t>(table_->view.cols);
  inputs_.resize(std::max(inputs_.size(), n * all));
  gated_.resize(std::max(gated_.size(), n * static_cast<size_t>(size_)));
  wide_.resize(std::max(wide_.size(), n * static_cast<size_t>(width_)));
  rows_.resize(std::max(rows_.size(), static_cast<size_t>(members)));
}

void LayerInputs::check(const LayerInput& layer) const {
  check_matrix(layer.gate, size_, width_, "input_gate");
  check_matrix(layer.up, width_, size_, "input_up");
  check_vector(layer.norm, width_, "input_norm");
}

void LayerInputs::look_up(const OwnTokens& own, const int32_t* tokens, const Batch& embedded) {
  const size_t all = static_cast<size_t>(table_->view.cols);
  const float root = std::sqrt(static_cast<float>(size_)), half = std::sqrt(0.5f), shrink = 1.0f / std::sqrt(static_cast<float>(width_));
  multiply(own.team, {projection_}, {embedded}, inputs_.data(), all, nullptr);
  own.team.barrier();
  Vector& row = rows_[static_cast<size_t>(own.team.id)];
  row.resize(all);
  const auto share = own.team.share(own.count);
  for (int64_t t = share.begin; t < share.end; t++) {
    unpack_row(table_->view, tokens[t] < table_->view.rows ? tokens[t] : 0, row.data());
    for (int layer = 0; layer < layers(); layer++) {
      float* x = input(t, layer);
      const float* looked_up = row.data() + layer * size_;
      for (int i = 0; i < size_; i++) x[i] *= shrink;
      kernels().rms_norm(x, norm_.data(), size_, eps_, x);
      for (int i = 0; i < size_; i++) x[i] = (x[i] + root * looked_up[i]) * half;
    }
  }
}

void LayerInputs::apply(const OwnTokens& own, const LayerInput& layer, int index, Activation activation, const Batch& x) {
  multiply(own.team, layer.gate, {x}, gated_.data(), static_cast<size_t>(size_), layer.up.rows.get());
  own.team.barrier();
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    activate(activation, &gated_[static_cast<size_t>(t * size_)], input(t, index), size_, narrow_.x(own.slot(t)));
    narrow_.quantize(own.slot(t));
  }
  own.barrier();
  multiply(own.team, layer.up, {own.batch(narrow_)}, wide_.data(), static_cast<size_t>(width_), nullptr);
  own.team.barrier();
}

}  // namespace shortlist
