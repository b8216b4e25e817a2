// The language-model head, three ways: all rows; the rows that an estimate leaves (low rank + confidence); and the rows
// that a bound on the upper bit plane leaves, which is provably enough.
#pragma once
#include <cmath>
#include <memory>
#include <vector>

#include "codes.hpp"
#include "decoder.hpp"

namespace shortlist {

constexpr int kProbes = 256;  // blocks whose best row is read to set the mark that others must reach

struct Winner {
  int64_t token = 0;
  float value = -INFINITY;
  int64_t rows = 0;   // rows whose exact value was computed
  int64_t upper = 0;  // rows whose upper plane was read for that
};

// A hidden state, prepared once for all that is asked about it.
class Query {
 public:
  Query(const float* hidden, int width) : activations_(hidden, 1, width) {}
  Batch batch() const { return activations_.batch(1); }

 private:
  Activations activations_;
};

class Head {
 public:
  explicit Head(Matrix rows);
  const Rows& rows() const { return *rows_; }

  void dense(const Query& h, float* logits) const;
  Winner dense_argmax(const Query& h);
  void exact_rows(const Query& h, const int32_t* indices, int64_t count, float* values) const;

  // From the upper plane of 8-bit rows: middle - radius <= exact value <= middle + radius, always.
  void bounds(const Query& h, float* middle, float* radius) const;
  // The dense winner, ties to the lowest row, reading the lower plane of few rows.
  Winner certified_argmax(const Query& h);

 private:
  Matrix rows_;
  std::vector<float> middle_, radius_;
};

// Estimated values of all rows from a low-rank copy, with one standard deviation of their error.
class LowRank {
 public:
  // projection [width, width]: its first `rank` rows give the code of a query, the others the residual query.
  LowRank(Matrix projection, std::shared_ptr<Codes> codes, std::vector<float> residual);

  void estimate(const Query& h, float* values, float* spread) const;
  // The shortlist: the best row by estimate of each of `probes` blocks, and the rows whose estimate + sigma * spread reaches
  // the best exact value among those; all rows, where more than `most` do.
  // Fills `indices` (ascending) and their exact `values`; `estimates` holds all rows' estimates, and `unit`, times a row's
  // residual, is its spread.
  void shortlist(const Query& h, const Head& head, float sigma, int64_t most, int probes, std::vector<int32_t>& indices, std::vector<float>& values,
                 std::vector<float>& estimates, float& unit) const;
  // The winner on the shortlist. Of 8-bit rows the upper planes say which need be read whole, and where there are more than
  // `most`, those of all rows do.
  Winner argmax(const Query& h, Head& head, float sigma, int64_t most, int probes);
  // Logits of all rows for the whole distribution: the shortlist and more rows exact, so that at most `share` of the mass of
  // the exact ones is left to estimates. Returns how many are exact.
  int64_t distribution(const Query& h, const Head& head, float sigma, int64_t most, int probes, double share, float* logits) const;
  size_t bytes() const { return projection_->bytes() + codes_->bytes() + residual_.size() * sizeof(float); }

 private:
  // A query in the estimate's coordinates.
  struct Coordinates {
    explicit Coordinates(const LowRank& low) : all(static_cast<size_t>(low.projection_->view.rows)), kept(low.codes_->view.rank()) { kept.reserve(1); }
    std::vector<float> all;
    Activations kept;  // the first `rank`
  };
  // Fills the coordinates and returns the norm per dimension of those that are cut off. Ends with a barrier.
  float encode(Team& team, const Query& h, Coordinates& to) const;
  void score(const Coordinates& of, int64_t begin, int64_t end, float* values) const;
  std::vector<int32_t> all_rows() const;
  void check_head(const Head& head) const;

  Matrix projection_;
  std::shared_ptr<Codes> codes_;
  std::vector<float> residual_, estimates_;
};

}  // namespace shortlist
