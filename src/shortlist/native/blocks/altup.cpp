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

AltUp::AltUp(int width, int active, float eps, Activation activation, std::vector<Matrix> expand, std::vector<Matrix> merge, LayerInputs inputs,
             std::vector<AltUpLayer> layers)
    : width_(width), count_(static_cast<int>(expand.size()) + 1), active_(active), eps_(eps), activation_(activation), expand_(std::move(expand)),
      merge_(std::move(merge)), inputs_(std::move(inputs)), layers_(std::move(layers)) {
  if (count_ > kMostStreams || merge_.size() != expand_.size() || active_ < 0 || active_ >= count_)
    throw std::invalid_argument("the residual streams must be at most 16, each with both matrices, and one of them active");
  for (const Matrix& m : expand_) check_matrix({m}, width_, width_, "expand");
  for (const Matrix& m : merge_) check_matrix({m}, width_, width_, "merge");
  if (this->layers() != inputs_.layers()) throw std::invalid_argument("the table has inputs for another number of layers");
  for (const AltUpLayer& layer : layers_) check(layer);
}

Bytes AltUp::bytes() const {
  size_t matrices = 0;
  for (const auto* each : {&expand_, &merge_})
    for (const Matrix& m : *each) matrices += m->bytes();
  for (const AltUpLayer& layer : layers_) matrices += layer.input.gate.bytes() + layer.input.up.bytes();
  Bytes sum = inputs_.bytes();
  return sum += Bytes::whole(matrices);
}

void AltUp::reserve(Context& context) const {
  inputs_.reserve(context);
  Scratch& s = context.make<Scratch>(sizes());
  s.x.reserve(context.slots());
  const size_t n = static_cast<size_t>(context.slots()) * static_cast<size_t>(width_);
  grow(s.streams, n * static_cast<size_t>(count_));
  grow(s.products, n * static_cast<size_t>(count_ - 1));
}

void AltUp::check(const AltUpLayer& layer) const {
  check_vector(layer.router, count_ * width_, "altup_router");
  check_vector(layer.predict, count_ * count_ * count_, "altup_predict");
  check_vector(layer.correct, count_ * count_, "altup_correct");
  check_vector(layer.scale, width_, "altup_scale");
  inputs_.check(layer.input);
}

void AltUp::start(Pass& pass) const {
  Scratch& memory = scratch(pass);
  const OwnTokens& own = pass.own;
  const float* residual = pass.context.residual.data();
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    const int slot = own.slot(t);
    for (float* to : {memory.stream(slot, 0), memory.x.x(slot)}) std::copy_n(residual + static_cast<int64_t>(slot) * width_, width_, to);
    memory.x.quantize(slot);
  }
  own.barrier();
  const Batch embedded = own.batch(memory.x);
  for (int s = 1; s < count_; s++)
    multiply(own.team, {expand_[static_cast<size_t>(s - 1)]}, {embedded}, memory.product(0, s), static_cast<size_t>((count_ - 1) * width_), nullptr);
  inputs_.look_up(pass, embedded);  // has a barrier, which the products need as well
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    const float target = std::sqrt(mean_square(memory.stream(own.slot(t), 0), width_));
    for (int s = 1; s < count_; s++) {
      const float* from = memory.product(t, s);
      const float factor = to_magnitude(from, target, width_);
      std::transform(from, from + width_, memory.stream(own.slot(t), s), [&](float v) { return v * factor; });
    }
  }
}

void AltUp::route(const AltUpLayer& layer, const float* x, float* modes) const {
  const float scale = 1.0f / std::sqrt(mean_square(x, width_) + eps_);
  for (int s = 0; s < count_; s++) modes[s] = std::tanh(scale * dot(&layer.router[static_cast<size_t>(s * width_)], x, width_));
}

void AltUp::before(Pass& pass, int index) const {
  Scratch& memory = scratch(pass);
  const OwnTokens& own = pass.own;
  const AltUpLayer& layer = layers_[static_cast<size_t>(index)];
  float* residual = pass.context.residual.data();
  constexpr int strip = 64;
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    const int slot = own.slot(t);
    float modes[kMostStreams], weights[kMostStreams * kMostStreams];
    route(layer, memory.stream(slot, active_), modes);
    for (int w = 0; w < count_ * count_; w++) weights[w] = dot(&layer.predict[static_cast<size_t>(w * count_)], modes, count_);
    for (int at = 0; at < width_; at += strip) {  // every stream needs all the others as they were
      const int n = std::min(strip, width_ - at);
      float were[kMostStreams][strip];
      for (int s = 0; s < count_; s++) std::copy_n(memory.stream(slot, s) + at, n, were[s]);
      for (int s = 0; s < count_; s++)
        for (int i = 0; i < count_; i++) add_scaled(were[i], weights[s * count_ + i], n, memory.stream(slot, s) + at);
    }
    std::copy_n(memory.stream(slot, active_), width_, residual + static_cast<int64_t>(slot) * width_);
  }
}

void AltUp::after(Pass& pass, int index) const {
  Scratch& memory = scratch(pass);
  const OwnTokens& own = pass.own;
  const AltUpLayer& layer = layers_[static_cast<size_t>(index)];
  const float* residual = pass.context.residual.data();
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    const int slot = own.slot(t);
    const float* computed = residual + static_cast<int64_t>(slot) * width_;
    float modes[kMostStreams];
    route(layer, computed, modes);
    float* x = memory.x.x(slot);
    std::transform(computed, computed + width_, memory.stream(slot, active_), x, std::minus<>());
    for (int s = 0; s < count_; s++) add_scaled(x, 1.0f + dot(&layer.correct[static_cast<size_t>(s * count_)], modes, count_), width_, memory.stream(slot, s));
    std::transform(layer.scale.begin(), layer.scale.end(), memory.stream(slot, active_), x, std::multiplies<>());
    memory.x.quantize(slot);
  }
  own.barrier();
  const float* inputs = inputs_.apply(pass, layer.input, index, activation_, own.batch(memory.x));
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    const int slot = own.slot(t);
    kernels().rms_norm(inputs + t * width_, layer.input.norm.data(), width_, eps_, memory.x.x(slot));
    for (int s = 1; s < count_; s++) kernels().add(memory.x.x(slot), width_, memory.stream(slot, s));
  }
}

void AltUp::finish(Pass& pass) const {
  Scratch& memory = scratch(pass);
  const OwnTokens& own = pass.own;
  float* residual = pass.context.residual.data();
  for (int s = 1; s < count_; s++) {
    for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
      std::copy_n(memory.stream(own.slot(t), s), width_, memory.x.x(own.slot(t)));
      memory.x.quantize(own.slot(t));
    }
    own.barrier();
    multiply(own.team, {merge_[static_cast<size_t>(s - 1)]}, {own.batch(memory.x)}, memory.product(0, s), static_cast<size_t>((count_ - 1) * width_), nullptr);
    own.team.barrier();
  }
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    float* one = residual + static_cast<int64_t>(own.slot(t)) * width_;
    std::copy_n(memory.stream(own.slot(t), 0), width_, one);
    const float target = std::sqrt(mean_square(one, width_));
    for (int s = 1; s < count_; s++) add_scaled(memory.product(t, s), to_magnitude(memory.product(t, s), target, width_), width_, one);
    for (int i = 0; i < width_; i++) one[i] /= static_cast<float>(count_);
  }
}

}  // namespace shortlist
