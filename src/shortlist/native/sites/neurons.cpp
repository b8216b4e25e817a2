#include "sites/neurons.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "kernels/kernels.hpp"

namespace shortlist {

Activation activation_named(const std::string& name) {
  if (name == "silu") return Activation::SiLU;
  if (name == "gelu_tanh") return Activation::GeluTanh;
  if (name == "relu") return Activation::ReLU;
  if (name == "relu2") return Activation::SquaredReLU;
  throw std::invalid_argument("unknown activation '" + name + "': silu, gelu_tanh, relu or relu2");
}

float statistical_cutoff(const float* values, int64_t n, float deviations) {
  constexpr int lanes = 8;  // sums side by side, which the compiler makes vectors of
  auto total = [&](auto&& term) {
    double sums[lanes] = {}, sum = 0.0;
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; j++) sums[j] += term(static_cast<double>(values[i + j]));
    for (; i < n; i++) sum += term(static_cast<double>(values[i]));
    for (double s : sums) sum += s;
    return sum;
  };
  const double mean = total([](double v) { return v; }) / static_cast<double>(n);
  const double variance = total([mean](double v) { return (v - mean) * (v - mean); }) / static_cast<double>(n);
  return static_cast<float>(mean + std::sqrt(variance) * static_cast<double>(deviations));
}

void activate(Activation activation, const float* gate, const float* up, int n, float* y) {
  if (activation == Activation::SiLU) return kernels().gated_silu(gate, up, n, y);
  if (activation == Activation::GeluTanh) return kernels().gated_gelu(gate, up, n, y);
  const bool squared = activation == Activation::SquaredReLU;
  for (int i = 0; i < n; i++) {
    const float positive = gate[i] < 0.0f ? 0.0f : gate[i];  // NaN stays NaN
    y[i] = (squared ? positive * positive : positive) * (up ? up[i] : 1.0f);
  }
}

Neurons::Neurons(const Rows* gate_rows, const Rows* up_rows, const Rows& down_rows, Arena& arena) {
  struct Part {
    const RowsView* from;
    RowsView* to;
    size_t at;
  };
  std::vector<Part> parts;
  for (auto [rows, view] : {std::pair{gate_rows, &gate}, std::pair{up_rows, &up}, std::pair{&down_rows, &down}}) {
    if (!rows) continue;
    if (rows->view.rows != down_rows.view.rows || rows->view.cols != down_rows.view.cols || rows->view.tiled)
      throw std::invalid_argument("gate, up and down need one row per neuron each, of one width and without tiles");
    *view = rows->view;
    parts.push_back({&rows->view, view, stride_});
    stride_ += rows->view.row_bytes();
  }
  stride_ = (stride_ + 63) / 64 * 64;
  block_ = arena.take(bytes());
  for (const Part& part : parts) {
    part.to->primary = block_.data + part.at;
    part.to->primary_stride = stride_;
    if (part.from->secondary) {
      part.to->secondary = part.to->primary + part.from->primary_bytes;
      part.to->secondary_stride = stride_;
    }
  }
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(count());
    for (int64_t r = share.begin; r < share.end; r++)
      for (const Part& part : parts) {
        std::memcpy(const_cast<uint8_t*>(part.to->row(r)), part.from->row(r), part.from->primary_bytes);
        if (part.from->secondary) std::memcpy(const_cast<uint8_t*>(part.to->lower(r)), part.from->lower(r), part.from->secondary_bytes);
      }
  });
}

namespace {
constexpr int64_t kStrip = 256;  // neurons whose values are on the stack
}

void neuron_coefficients(const Team& team, const Neurons& neurons, const Batch& x, Activation activation, const int32_t* indices,
    int64_t listed,
                         const float* gates, float* coefficients) {
  const auto share = team.share(listed, 16);  // whole vectors of every instruction set: what a tail computes may differ in the last bit
  for (int64_t at = share.begin; at < share.end; at += kStrip) {
    const int n = static_cast<int>(std::min(kStrip, share.end - at));
    float gate[kStrip], up[kStrip] = {};
    const bool with_up = neurons.up.rows && (gates || neurons.gate.rows);
    if (gates)
      std::copy_n(gates + at, n, gate);
    else
      kernels().dot_list(neurons.gate.rows ? neurons.gate : neurons.up, x, indices + at, n, gate);
    if (with_up) {  // of those that fire
      int32_t firing[kStrip];
      int place[kStrip], count = 0;
      float value[kStrip];
      for (int i = 0; i < n; i++)
        if (!has_zeros(activation) || !(gate[i] <= 0.0f)) place[count] = i, firing[count++] = indices[at + i];
      kernels().dot_list(neurons.up, x, firing, count, value);
      for (int i = 0; i < count; i++) up[place[i]] = value[i];
    }
    activate(activation, gate, with_up ? up : nullptr, n, coefficients + at);
  }
}

void neuron_sum(const Team& team, const Neurons& neurons, const int32_t* indices, int64_t listed, const float* coefficients, float* y) {
  const auto columns = team.share(neurons.down.cols, kBlock);
  if (columns.begin >= columns.end) return;
  std::fill(y + columns.begin, y + columns.end, 0.0f);
  // Rows times zero change nothing and are not read.
  int32_t rows[kStrip];
  float factors[kStrip];
  for (int64_t i = 0; i < listed;) {
    int64_t count = 0;
    for (; i < listed && count < kStrip; i++)
      if (coefficients[i] != 0.0f) rows[count] = indices[i], factors[count++] = coefficients[i];
    kernels().axpy_list(neurons.down, rows, factors, count, static_cast<int>(columns.begin), static_cast<int>(columns.end), y);
  }
}

void Neurons::forward(const Batch& x, Activation activation, const int32_t* indices, int64_t listed, float* y) const {
  std::vector<float> coefficients(static_cast<size_t>(listed));
  Pool::instance().run([&](Team& team) {
    neuron_coefficients(team, *this, x, activation, indices, listed, nullptr, coefficients.data());
    team.barrier();
    neuron_sum(team, *this, indices, listed, coefficients.data(), y);
  });
}

int64_t ShortlistedFfn::list(const Batch& x, const float* scores_of_x, float cutoff, int32_t* indices) const {
  static const std::vector<float> no_margin(kStrip, 0.0f);
  float scale = 0.0f;
  if (estimated()) {
    for (int i = 0; i < x.padded; i++) scale += x.x[i] * x.x[i];
    scale = std::sqrt(scale);
  }
  const float mark = std::nextafter(cutoff, std::numeric_limits<float>::infinity());
  int64_t count = 0;
  for (int64_t at = 0, n = neurons->count(); at < n; at += kStrip) {  // NaN reaches any mark, and so the output
    const float* margins = estimated() ? margin.data() + at : no_margin.data();
    count += kernels().reaching(scores_of_x + at, margins, scale, std::min(kStrip, n - at), mark, static_cast<int32_t>(at),
        indices + count);
  }
  return count;
}

}  // namespace shortlist
