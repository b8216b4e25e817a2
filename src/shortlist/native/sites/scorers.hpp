// The estimators that have a kernel. Each is the fused twin of the estimator of its name.
#pragma once
#include <memory>
#include <vector>

#include "blocks/decoder.hpp"
#include "sites/codes.hpp"
#include "sites/scorer.hpp"

namespace shortlist {

// `exact`: the product itself, and no margins.
class ExactProducts : public Scorer {
 public:
  explicit ExactProducts(Matrix rows);
  int64_t rows() const override { return rows_->view.rows; }
  int width() const override { return rows_->view.cols; }
  size_t bytes() const override { return rows_->bytes(); }
  std::unique_ptr<Scores> scores(const Query& queries, float* values, float* margins) const override;

 private:
  Matrix rows_;
  std::vector<float> nothing_;  // margins
};

// `bit_planes`: the upper planes of 8-bit rows, with a bound that always holds.
class UpperPlanes : public Scorer {
 public:
  explicit UpperPlanes(Matrix rows);
  int64_t rows() const override { return rows_->view.rows; }
  int width() const override { return rows_->view.cols; }
  size_t bytes() const override { return static_cast<size_t>(rows_->view.rows) * rows_->view.primary_bytes; }
  bool upper_planes() const override { return true; }
  std::unique_ptr<Scores> scores(const Query& queries, float* values, float* margins) const override;

 private:
  Matrix rows_;
};

// `low_rank` and `mixed_width`: a few coordinates of every row. Rows lie in groups, each of its own rank.
class LowRank : public Scorer {
 public:
  // projection [directions, width]: its first `rank` rows give a query's coordinates, the others those that are cut off; without
  // others the scale is 1. groups: the codes of successive places. residual [rows] by row; order: the row at each place, or
  // empty.
  LowRank(Matrix projection, std::vector<std::shared_ptr<Codes>> groups, std::vector<float> residual, int rank, std::vector<int32_t> order);
  int64_t rows() const override { return static_cast<int64_t>(margins_.size()); }
  int width() const override { return projection_->view.cols; }
  size_t bytes() const override;
  const int32_t* order() const override { return order_.empty() ? nullptr : order_.data(); }
  std::unique_ptr<Scores> scores(const Query& queries, float* values, float* margins) const override;

 private:
  class Call;
  Matrix projection_;
  std::vector<std::shared_ptr<Codes>> groups_;
  std::vector<float> margins_;  // by place
  std::vector<int32_t> order_;
  int rank_, padded_ = 0;
};

}  // namespace shortlist
