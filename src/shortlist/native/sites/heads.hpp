// The language-model head, three ways: all rows; the rows that an estimate leaves (low rank + confidence); and the rows
// that a bound on the upper bit plane leaves, which is provably enough.
#pragma once
#include <cmath>
#include <memory>
#include <vector>

#include "sites/codes.hpp"
#include "blocks/decoder.hpp"

namespace shortlist {

constexpr int kProbes = 256;  // blocks whose best row is read to set the mark that others must reach

struct Winner {
  int64_t token = 0;
  float value = -INFINITY;
  int64_t rows = 0;   // rows whose exact value was computed
  int64_t upper = 0;  // rows whose upper plane was read for that
};

// Hidden states, one or several, prepared once for all that is asked about them.
class Query {
 public:
  Query(const float* hidden, int width) : Query(hidden, 1, width) {}
  Query(const float* hidden, int count, int width) : count_(count), activations_(hidden, count, width) {}
  Batch batch() const { return activations_.batch(count_); }
  size_t count() const { return static_cast<size_t>(count_); }

 private:
  int count_;
  Activations activations_;
};

// All of it throws NotFinite where a logit, or an estimate of one, is not a finite number.
class Head {
 public:
  explicit Head(Matrix rows);
  const Rows& rows() const { return *rows_; }

  // Logits of all rows, [queries, rows].
  void dense(const Query& h, float* logits) const;
  // The winner of each query; what several read, they read together.
  std::vector<Winner> dense_argmax(const Query& h) const;
  void exact_rows(const Query& h, const int32_t* indices, int64_t count, float* values) const;

  // From the upper plane of 8-bit rows: middle - radius <= exact value <= middle + radius, always.
  void bounds(const Query& h, float* middle, float* radius) const;
  // The dense winner of each query, ties to the lowest row, reading the lower plane of few rows.
  std::vector<Winner> certified_argmax(const Query& h);

 private:
  Matrix rows_;
  std::vector<float> middle_, radius_;  // [queries, rows]
};

// Estimated values of all rows from a low-rank copy, with one standard deviation of their error.
class LowRank {
 public:
  // projection [width, width]: its first `rank` rows give the code of a query, the others the residual query.
  LowRank(Matrix projection, std::shared_ptr<Codes> codes, std::vector<float> residual);

  void estimate(const Query& h, const Head& head, float* values, float* spread) const;
  // The shortlist: the best row by estimate of each of `probes` blocks, and the rows whose estimate + sigma * spread reaches
  // the best exact value among those; all rows, where more than `most` do.
  // Fills `indices` (ascending) and their exact `values`; `estimates` holds all rows' estimates, and `unit`, times a row's
  // residual, is its spread.
  void shortlist(const Query& h, const Head& head, float sigma, int64_t most, int probes, std::vector<int32_t>& indices, std::vector<float>& values,
                 std::vector<float>& estimates, float& unit) const;
  // The winner on the shortlist of each query; the codes are read once for all. Of 8-bit rows the upper planes say which need be
  // read whole. Queries with more than `most` rows on the shortlist take the bound on the upper planes of all rows, or all rows.
  std::vector<Winner> argmax(const Query& h, Head& head, float sigma, int64_t most, int probes);
  // Logits of all rows for the whole distribution: the shortlist and more rows exact, so that at most `share` of the mass of
  // the exact ones is left to estimates. Returns how many are exact.
  int64_t distribution(const Query& h, const Head& head, float sigma, int64_t most, int probes, double share, float* logits) const;
  size_t bytes() const { return projection_->bytes() + codes_->bytes() + residual_.size() * sizeof(float); }

 private:
  // Queries in the estimate's coordinates.
  struct Coordinates {
    Coordinates(const LowRank& low, const Query& h)
        : all(h.count() * static_cast<size_t>(low.projection_->view.rows)), cut_off(h.count()), kept(low.codes_->view.rank()) {
      kept.reserve(static_cast<int>(h.count()));
    }
    Batch batch() const { return kept.batch(static_cast<int>(cut_off.size())); }
    std::vector<float> all, cut_off;  // cut_off: the norm per dimension of the coordinates that are
    Activations kept;                 // the first `rank`
  };
  // Fills the coordinates. Ends with a barrier.
  void encode(Team& team, const Query& h, Coordinates& to) const;
  // values[q * stride + r] for rows [begin, end).
  void score(const Coordinates& of, int64_t begin, int64_t end, float* values, size_t stride) const;
  std::vector<int32_t> all_rows() const;
  void check_head(const Head& head) const;

  Matrix projection_;
  std::shared_ptr<Codes> codes_;
  std::vector<float> residual_, estimates_;
};

}  // namespace shortlist
