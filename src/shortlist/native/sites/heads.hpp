// The language-model head: all rows, or those that a scorer and a policy leave.
#pragma once
#include <memory>
#include <vector>

#include "blocks/decoder.hpp"
#include "sites/scorer.hpp"
#include "sites/select.hpp"

namespace shortlist {

// All of it throws NotFinite where a logit, or an estimate of one, is not a finite number.
class Head {
 public:
  explicit Head(Matrix rows);
  const Rows& rows() const { return *rows_; }
  Matrix matrix() const { return rows_; }

  // Logits of all rows, [queries, rows].
  void dense(const Query& h, float* logits) const;
  // The winner of each query; what several read, they read together.
  std::vector<Winner> dense_argmax(const Query& h) const;
  void exact_rows(const Query& h, const int32_t* indices, int64_t count, float* values) const;

  // Values and reach (scale times margin) of all rows for one query, by row.
  void scores(const Scorer& scorer, const Query& h, float* values, float* reach) const;
  // The winner on the shortlist of each query; rows are scored once for all. Of 8-bit rows the upper planes say which need be read
  // whole, where the mark is a value that was read. Queries with a shortlist longer than the policy's `most` take the bound on
  // the upper planes of all rows, or all rows.
  std::vector<Winner> argmax(const Scorer& scorer, const Query& h, const Policy& policy);
  // One query's shortlist, ascending: all rows where more than `most` reach the mark.
  std::vector<int32_t> shortlist(const Scorer& scorer, const Query& h, const Policy& policy) const;
  // Logits of all rows for the whole distribution: the shortlist and more rows exact, so that at most `share` of the mass of
  // the exact ones is left to estimates. Returns how many are exact.
  int64_t distribution(const Scorer& scorer, const Query& h, const Policy& policy, double share, float* logits) const;

 private:
  // One query's shortlist, and the estimates and margins of all rows, by row. It is kept between queries: fresh memory for every row
  // would cost a page fault per thousand of them.
  struct Listed {
    std::vector<int32_t> rows;
    const float *estimates = nullptr, *margins = nullptr;
    std::vector<float> values, own_margins, by_row[2];  // what they point to
  };
  void list(const Scorer& scorer, const Query& h, const Policy& policy, Listed& to) const;
  void check(const Scorer& scorer) const;

  Matrix rows_;
  std::vector<float> values_, margins_;  // [queries, rows]
};

}  // namespace shortlist
