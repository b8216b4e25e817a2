// Grouped products: many float32 matrices, each with its own rows, forward and backward. They compute the experts of a mixture
// for PyTorch on the CPU.
//
// Blocks of outputs are distributed over threads, so one thread reads each weight once and no thread waits within a product. The
// matrix is not packed; its rows, which are few, are packed into panels of one or two registers.
#pragma once
#include <cstdint>
#include <vector>

namespace shortlist {

// Rows of [*, width], gathered: row p is x[index[p]], or x[p] without an index.
struct GatheredRows {
  const float* data;
  int64_t width;
  const int64_t* index = nullptr;

  const float* row(int64_t p) const { return data + (index ? index[p] : p) * width; }
};

// The target of results: without an index, result p is written to row p; with one, it is added to row index[p], times scale[p] if
// there are scales.
struct ScatteredRows {
  float* data;
  int64_t width;
  const int64_t* index = nullptr;
  const float* scale = nullptr;
};

// y_p = W_g x_p, or W_g^T x_p when `transposed`, for all rows p of group g: the first load[0] are group 0's.
// `weights` holds load.size() matrices [rows, columns].
void grouped_product(const float* weights, int64_t rows, int64_t columns, bool transposed, const std::vector<int64_t>& load,
                     const GatheredRows& x, const ScatteredRows& y);

// out_g = sum_p left_p right_p^T over the rows p of group g: the gradients of matrices [left.width, right.width]. Those of empty
// groups are zero.
void grouped_outer(const std::vector<int64_t>& load, const GatheredRows& left, const GatheredRows& right, float* out);

}  // namespace shortlist
