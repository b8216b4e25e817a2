#include "blocks/altup.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/kernels.hpp"

namespace shortlist {

namespace {

constexpr int kMostStreams = 16;

// Several sums side by side, which the compiler makes vectors of; their order is the same everywhere.
float dot(const float* a, const float* b, int n) {
  constexpr int lanes = 16;
  float sums[lanes] = {};
  int i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int j = 0; j < lanes; j++) sums[j] += a[i + j] * b[i + j];
  float sum = 0.0f;
  for (float s : sums) sum += s;
  for (; i < n; i++) sum += a[i] * b[i];
  return sum;
}

float mean_square(const float* x, int n) { return dot(x, x, n) / static_cast<float>(n); }

// y += a x
void add_scaled(const float* x, float a, int n, float* y) {
  for (int i = 0; i < n; i++) y[i] += a * x[i];
}

// What brings x to the magnitude of another vector.
float to_magnitude(const float* x, float target, int n) { return target / std::sqrt(std::max(mean_square(x, n), 1e-5f)); }

}  // namespace

AltUp::AltUp(int width, int active, float eps, std::vector<Matrix> expand, std::vector<Matrix> merge, LayerInputs inputs)
    : width_(width), count_(static_cast<int>(expand.size()) + 1), active_(active), eps_(eps), expand_(std::move(expand)), merge_(std::move(merge)),
      inputs_(std::move(inputs)), x_(width) {
  if (count_ > kMostStreams || merge_.size() != expand_.size() || active_ < 0 || active_ >= count_)
    throw std::invalid_argument("the residual streams must be at most 16, each with both matrices, and one of them active");
  for (const Matrix& m : expand_) check_matrix({m}, width_, width_, "expand");
  for (const Matrix& m : merge_) check_matrix({m}, width_, width_, "merge");
}

void AltUp::reserve(int slots, int members) {
  inputs_.reserve(slots, members);
  x_.reserve(slots);
  const size_t n = static_cast<size_t>(slots) * static_cast<size_t>(width_);
  streams_.resize(std::max(streams_.size(), n * static_cast<size_t>(count_)));
  products_.resize(std::max(products_.size(), n * static_cast<size_t>(count_ - 1)));
}

void AltUp::check(const AltUpLayer& layer, int index) const {
  if (index >= inputs_.layers()) throw std::invalid_argument("there are more layers than the table has inputs for");
  check_vector(layer.router, count_ * width_, "altup_router");
  check_vector(layer.predict, count_ * count_ * count_, "altup_predict");
  check_vector(layer.correct, count_ * count_, "altup_correct");
  check_vector(layer.scale, width_, "altup_scale");
  inputs_.check(layer.input);
}

void AltUp::start(const OwnTokens& own, const int32_t* tokens, const float* residual) {
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    const int slot = own.slot(t);
    for (float* to : {stream(slot, 0), x_.x(slot)}) std::copy_n(residual + static_cast<int64_t>(slot) * width_, width_, to);
    x_.quantize(slot);
  }
  own.barrier();
  const Batch embedded = own.batch(x_);
  for (int s = 1; s < count_; s++)
    multiply(own.team, {expand_[static_cast<size_t>(s - 1)]}, {embedded}, product(0, s), static_cast<size_t>((count_ - 1) * width_), nullptr);
  inputs_.look_up(own, tokens, embedded);  // has a barrier, which the products need as well
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    const float target = std::sqrt(mean_square(stream(own.slot(t), 0), width_));
    for (int s = 1; s < count_; s++) {
      const float* from = product(t, s);
      const float factor = to_magnitude(from, target, width_);
      std::transform(from, from + width_, stream(own.slot(t), s), [&](float v) { return v * factor; });
    }
  }
}

void AltUp::route(const AltUpLayer& layer, const float* x, float* modes) const {
  const float scale = 1.0f / std::sqrt(mean_square(x, width_) + eps_);
  for (int s = 0; s < count_; s++) modes[s] = std::tanh(scale * dot(&layer.router[static_cast<size_t>(s * width_)], x, width_));
}

void AltUp::before(const OwnTokens& own, const AltUpLayer& layer, float* residual) {
  constexpr int strip = 64;
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    const int slot = own.slot(t);
    float modes[kMostStreams], weights[kMostStreams * kMostStreams];
    route(layer, stream(slot, active_), modes);
    for (int w = 0; w < count_ * count_; w++) weights[w] = dot(&layer.predict[static_cast<size_t>(w * count_)], modes, count_);
    for (int at = 0; at < width_; at += strip) {  // every stream needs all the others as they were
      const int n = std::min(strip, width_ - at);
      float were[kMostStreams][strip];
      for (int s = 0; s < count_; s++) std::copy_n(stream(slot, s) + at, n, were[s]);
      for (int s = 0; s < count_; s++)
        for (int i = 0; i < count_; i++) add_scaled(were[i], weights[s * count_ + i], n, stream(slot, s) + at);
    }
    std::copy_n(stream(slot, active_), width_, residual + static_cast<int64_t>(slot) * width_);
  }
}

void AltUp::after(const OwnTokens& own, const AltUpLayer& layer, int index, Activation activation, const float* residual) {
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    const int slot = own.slot(t);
    const float* computed = residual + static_cast<int64_t>(slot) * width_;
    float modes[kMostStreams];
    route(layer, computed, modes);
    float* x = x_.x(slot);
    std::transform(computed, computed + width_, stream(slot, active_), x, std::minus<>());
    for (int s = 0; s < count_; s++) add_scaled(x, 1.0f + dot(&layer.correct[static_cast<size_t>(s * count_)], modes, count_), width_, stream(slot, s));
    std::transform(layer.scale.begin(), layer.scale.end(), stream(slot, active_), x, std::multiplies<>());
    x_.quantize(slot);
  }
  own.barrier();
  inputs_.apply(own, layer.input, index, activation, own.batch(x_));
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    const int slot = own.slot(t);
    kernels().rms_norm(inputs_.of(t), layer.input.norm.data(), width_, eps_, x_.x(slot));
    for (int s = 1; s < count_; s++) kernels().add(x_.x(slot), width_, stream(slot, s));
  }
}

void AltUp::finish(const OwnTokens& own, float* residual) {
  for (int s = 1; s < count_; s++) {
    for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
      std::copy_n(stream(own.slot(t), s), width_, x_.x(own.slot(t)));
      x_.quantize(own.slot(t));
    }
    own.barrier();
    multiply(own.team, {merge_[static_cast<size_t>(s - 1)]}, {own.batch(x_)}, product(0, s), static_cast<size_t>((count_ - 1) * width_), nullptr);
    own.team.barrier();
  }
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    float* one = residual + static_cast<int64_t>(own.slot(t)) * width_;
    std::copy_n(stream(own.slot(t), 0), width_, one);
    const float target = std::sqrt(mean_square(one, width_));
    for (int s = 1; s < count_; s++) add_scaled(product(t, s), to_magnitude(product(t, s), target, width_), width_, one);
    for (int i = 0; i < width_; i++) one[i] /= static_cast<float>(count_);
  }
}

}  // namespace shortlist
