// FFN neurons as units: the rows of one neuron lie together, so that a neuron on a shortlist is one contiguous read.
//
//   neuron i:  gate row i | up row i | column i of down, as a row          (what a layer always reads whole is left out)
//
// Each part keeps the format of the matrix that it came from, planes of 8-bit rows one after the other.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "formats/rows.hpp"
#include "pool/threads.hpp"

namespace shortlist {

enum class Activation { SiLU, GeluTanh, ReLU, SquaredReLU };

// Throws std::invalid_argument on another name than silu, gelu_tanh, relu and relu2.
Activation activation_named(const std::string& name);
inline bool has_zeros(Activation a) { return a == Activation::ReLU || a == Activation::SquaredReLU; }

// The mean of n values plus so many of their deviations: gates below it are set to zero by the statistical top-k of Spark
// (https://arxiv.org/abs/2506.06644) and Gemma 3n, before an activation that keeps zero at zero.
float statistical_cutoff(const float* values, int64_t n, float deviations);

// y = activation(gate) * up; an FFN without a gate (up = nullptr) has y = activation(gate), of those with exact zeros only.
void activate(Activation activation, const float* gate, const float* up, int n, float* y);

class Neurons {
 public:
  // Copies matrices of one row per neuron, none of them tiled; gate and up may be nullptr. Throws std::invalid_argument
  // where sizes differ.
  Neurons(const Rows* gate, const Rows* up, const Rows& down, Arena& arena);

  RowsView gate, up, down;  // no rows: not here
  int64_t count() const { return down.rows; }
  size_t bytes_each() const { return stride_; }
  size_t bytes() const { return stride_ * static_cast<size_t>(count()); }

  // y[width] = sum over the listed neurons of activation(gate . x) (up . x) times their row of down, added in the order of the
  // list, whatever the threads; activation(up . x) without a gate.
  void forward(const Batch& x, Activation activation, const int32_t* indices, int64_t listed, float* y) const;

 private:
  size_t stride_ = 0;
  Allocation block_;
};

// What one member of a team does for one token, in two steps with a barrier between them. First its share of the list's
// coefficients, activation(gate) * up. Then its columns of the sum. `gates` holds those of the list, or is nullptr: then they are
// computed from the gate rows, or the up rows where there is no gate.
void neuron_coefficients(const Team& team, const Neurons& neurons, const Batch& x, Activation activation, const int32_t* indices,
    int64_t listed,
                         const float* gates, float* coefficients);
void neuron_sum(const Team& team, const Neurons& neurons, const int32_t* indices, int64_t listed, const float* coefficients, float* y);

// An FFN of which every token reads only some neurons. `scores`, read whole, say which: they are the gates (the ups, without a
// gate) themselves, so that a score that is not positive means an exact zero, or estimates of them.
struct ShortlistedFfn {
  std::shared_ptr<Rows> scores;
  std::vector<float> margin;  // empty: scores are exact. Otherwise times |x| how far above its estimate a gate may lie
  std::shared_ptr<Neurons> neurons;

  bool estimated() const { return !margin.empty(); }
  // The neurons whose gate can be above the cutoff (0 where scores are estimates), ascending, into `indices` (room for all);
  // returns how many.
  int64_t list(const Batch& x, const float* scores_of_x, float cutoff, int32_t* indices) const;
};

}  // namespace shortlist
