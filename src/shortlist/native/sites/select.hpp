// The one native selection: rows whose upper end reaches a mark. A policy says which mark.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "formats/rows.hpp"
#include "sites/scorer.hpp"

namespace shortlist {

constexpr int kProbes = 256;  // blocks whose best row is read to set the mark that others must reach

// What the upper end of a row must reach, as selectors/*.py define it.
struct Policy {
  enum class Mark {
    Probes,     // the best exact value among the best rows by score of `probes` blocks (confidence, certified)
    KthBest,    // the value of the `fetch`-th best row (top_k)
    Threshold,  // `threshold`
  };
  Mark mark = Mark::Probes;
  float times = 1.0f;                                  // what multiplies the scale: sigma
  int64_t most = std::numeric_limits<int64_t>::max();  // where more rows reach the mark, all are taken
  int probes = kProbes;
  int64_t fetch = 1;
  float threshold = 0.0f;
};

struct Winner {
  int64_t token = 0;
  float value = -INFINITY;
  int64_t rows = 0;   // rows whose exact value was computed
  int64_t upper = 0;  // rows whose upper plane was read for that
};

// Throws NotFinite, which names the file, where one of the logits, or of estimates of them, is not a finite number.
void check_finite(const Rows& rows, const float* logits, int64_t count);

// The places of the `count` largest values, ascending; of equals the lowest, and NaN counts as -infinity. 1 <= count <= n.
// `sample` and `possible` are room that is kept between calls.
void best_places(const float* values, int64_t n, int64_t count, std::vector<float>& sample, std::vector<int32_t>& possible, int32_t* out);

// The selection of one query, in steps of a job of the pool that every member takes. Scores are cut into `probes` blocks, which do
// not depend on the number of threads, so neither do the rows that are read.
class Selection {
 public:
  Selection(const Rows& rows, const Batch& x, const Scores& scores, size_t query, const Scorer& scorer, const Policy& policy)
      : rows_(rows), x_(x), scores_(scores), query_(query), order_(scorer.order()), policy_(policy) {}

  void seat(int members) { runners_.resize(static_cast<size_t>(members)); }  // before the job
  void probe(const Team& team, int64_t begin, int64_t end);                 // a block, whose scores are there
  void read_probes(const Team& team);
  // Once all members have: the places of [begin, end) that reach the mark.
  void gather(const Team& team, int64_t begin, int64_t end);
  void take_best();  // by one member: a shortlist is never empty; where no row reached the mark, the best by score is on it
  int64_t reached() const;
  bool too_long() const { return reached() > policy_.most; }
  // The rows that were read first and those that reached the mark, ascending.
  std::vector<int32_t> shortlist() const;
  // By every member: reads its part of the rows that reached the mark. Where it is to `sift` them, it reads their upper planes
  // first, and then only those whose bound reaches the mark too.
  void finish(Team& team, bool sift);
  // The largest value that was read and, on a tie, the lowest row, as an argmax over all rows would give.
  Winner winner() const;

 private:
  struct Runner {  // of one member
    std::vector<int32_t> first, reached;  // places
    float best_score = -INFINITY, mark = -INFINITY;
    int32_t best_place = -1;
    Winner best;
  };

  int32_t row(int32_t place) const { return order_ ? order_[place] : place; }
  float mark() const;
  std::vector<int32_t> part_of_reached(const Team& team) const;
  void read(const std::vector<int32_t>& places, Runner& mine) const;

  const Rows& rows_;
  const Batch x_;
  const Scores& scores_;
  const size_t query_;
  const int32_t* order_;
  const Policy policy_;
  std::vector<Runner> runners_;
};

// By every member: scores all rows for all queries, and finds what reaches each query's mark. Ends with a barrier.
void select(Team& team, Scores& scores, std::vector<Selection>& selections, const Rows& rows, const Policy& policy);

}  // namespace shortlist
