#include "blocks/laurel.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/kernels.hpp"

namespace shortlist {

void Laurel::reserve(int slots) {
  narrow_.reserve(slots);
  const size_t n = static_cast<size_t>(slots);
  low_.resize(std::max(low_.size(), n * static_cast<size_t>(rank_)));
  for (auto* v : {&wide_, &normed_}) v->resize(std::max(v->size(), n * static_cast<size_t>(width_)));
}

void Laurel::check(const LaurelLayer& layer) const {
  check_matrix(layer.left, rank_, width_, "laurel_left");
  check_matrix(layer.right, width_, rank_, "laurel_right");
  check_vector(layer.norm, width_, "laurel_norm");
}

void Laurel::left(Team& team, const LaurelLayer& layer, const Input& x) {
  multiply(team, layer.left, x, low_.data(), static_cast<size_t>(rank_), nullptr);
}

void Laurel::right(const OwnTokens& own, const LaurelLayer& layer) {
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    std::copy_n(&low_[static_cast<size_t>(t * rank_)], rank_, narrow_.x(own.slot(t)));
    narrow_.quantize(own.slot(t));
  }
  own.barrier();
  multiply(own.team, layer.right, {own.batch(narrow_)}, wide_.data(), static_cast<size_t>(width_), nullptr);
}

void Laurel::add(const OwnTokens& own, const LaurelLayer& layer, Activations& x, float* residual) {
  const Kernels& k = kernels();
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    float* normed = &normed_[static_cast<size_t>(own.slot(t)) * static_cast<size_t>(width_)];
    float* to = residual + static_cast<int64_t>(own.slot(t)) * width_;
    k.rms_norm(&wide_[static_cast<size_t>(t * width_)], layer.norm.data(), width_, eps_, normed);
    k.add(normed, width_, to);
    k.add(x.x(own.slot(t)), width_, to);
  }
}

void Laurel::halve(const OwnTokens& own, float* residual) const {
  const float factor = std::sqrt(0.5f);
  for (int64_t t = own.mine.begin; t < own.mine.end; t++)
    for (int i = 0; i < width_; i++) residual[static_cast<int64_t>(own.slot(t)) * width_ + i] *= factor;
}

}  // namespace shortlist
