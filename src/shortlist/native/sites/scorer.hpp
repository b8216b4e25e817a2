// The interface of an estimator's kernel: it scores all rows of a table for the queries of a call.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "formats/rows.hpp"
#include "blocks/linear.hpp"
#include "pool/threads.hpp"

namespace shortlist {

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

// The scores of one call: the upper end of the unit at a place is values(q)[place] + scale(q) * margins(q)[place].
class Scores {
 public:
  virtual ~Scores() = default;
  // Prepares the queries, by every member of the team. Ends with a barrier.
  virtual void encode(Team& team) = 0;
  // Fills the values of places [begin, end) for all queries, and their margins where these are not the same for every query.
  virtual void fill(int64_t begin, int64_t end) = 0;
  virtual const float* margins(size_t query) const = 0;
  virtual float scale(size_t query) const = 0;
  const float* values(size_t query) const { return values_ + query * places_; }

 protected:
  Scores(float* values, int64_t places) : values_(values), places_(static_cast<size_t>(places)) {}
  float* values_;  // [queries, places]
  size_t places_;
};

// A fitted estimator. Places are rows, unless it keeps them in an order of its own.
class Scorer {
 public:
  virtual ~Scorer() = default;
  virtual int64_t rows() const = 0;
  virtual int width() const = 0;  // of a query
  virtual size_t bytes() const = 0;  // read for a query
  virtual bool upper_planes() const { return false; }  // whether a bound from the rows' upper planes is what it gives
  // The row at each place; nullptr where places are rows.
  virtual const int32_t* order() const { return nullptr; }
  // Scores of the queries, which outlive them, in room that the caller keeps: values and margins, [queries, rows] each.
  virtual std::unique_ptr<Scores> scores(const Query& queries, float* values, float* margins) const = 0;
};

}  // namespace shortlist
