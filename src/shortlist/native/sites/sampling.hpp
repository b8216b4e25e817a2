// One token of each of several texts, drawn from the head's rows: engine/sampling.py is the definition, and every token is the one
// that it draws from all logits. Rows are scored once for all texts, by bounds on their logits (an exact head) or by the logits
// themselves (a dense one); whole rows are read only where they could change a token.
//
// Adjustments, the cap and the temperature never reverse an order, so they turn bounds into bounds. From there:
//
// - The row that looks best in each block is read: what is certain of the best rows says which others are out of reach.
// - A row can win only if its upper bound plus its noise reaches what a rival has for certain. Those rows are read, and the winner
//   stands if the truncations keep it; if not, they keep no row after it either, and the next winner is looked for.
// - min-p compares with the best row, which is looked for first. top-k counts the rows before the winner; those that its value lies
//   between the bounds of are read.
// - top-p asks whether the rows before the winner hold less than a share of the probability: bounds bracket both sides. Where they
//   do not say, the rows that may be before it are read. Where that does not help, the k rows of top-k are read, and what follows is
//   arithmetic on exact values; without top-k the draw is left open
//   (token -1), and who asked draws from all rows, read whole, in a second call.
//
// A comparison of sums decides only beyond a margin that is far more than their rounding.
#pragma once
#include <functional>
#include <vector>

#include "kernels/noise.hpp"
#include "kernels/kernels.hpp"
#include "sites/heads.hpp"

namespace shortlist {

constexpr double kReach = kMaxNoise - kMinNoise;  // rows that far below the best one are out of every draw
constexpr double kWeighedBounds = 6.0, kWeighedValues = 10.0;  // rows that far below are only weighed, for top-p

// What is asked of one text. Arrays are of the whole vocabulary and outlive the call; null: nothing of the kind is asked.
struct Sampling {
  double temperature = 0.0;  // 0: the greatest
  int64_t top_k = 0;         // 0: all
  double top_p = 1.0;
  double log_min_p = -INFINITY;
  uint64_t seed = 0, position = 0;
  float cap = 0.0f;             // of the logits: cap * tanh(logit / cap); 0: none
  const bool* seen = nullptr;   // rows whose logit `penalty` divides where positive, and multiplies elsewhere
  float penalty = 1.0f;
  const float* offsets = nullptr;  // added
  const bool* allowed = nullptr;   // the others become minus infinity

  bool greedy() const { return !(temperature > 0); }
  bool truncated() const { return top_p < 1 || log_min_p > -INFINITY; }
  // The logit of a row after cap, penalty, offset and constraint: never falling in `logit`.
  float adjusted(float logit, int64_t row) const;
};

struct Drawn {
  int64_t token = -1;  // -1: bounds do not settle it
  int64_t rows = 0;    // read whole
};

float softcap(float logit, float cap);
const NoiseFilter& noise_filter();

// The draw of one text: bounds are taken block by block, by several threads; then one thread settles it.
class Lot {
 public:
  // read(rows, count, values) gives exact logits before `asked` adjusts them.
  using Reader = std::function<void(const int32_t* rows, int64_t count, float* values)>;
  static constexpr int64_t kMost = 1024;  // rows of a block

  // `bounded`: what is taken are bounds; else values, each both ends of its own bounds.
  Lot(const Sampling& asked, bool bounded) : asked_(asked), bounded_(bounded), noise_(asked.seed, asked.position) {}
  void seat(int members) { members_.assign(static_cast<size_t>(members), {}); }
  // Bounds of rows [first, first + count), which are changed; of a value that is known both ends are the value.
  void take(int member, float* lower, float* upper, int64_t first, int64_t count, const Reader& read);
  Drawn settle(const Reader& read);

 private:
  struct Bounds {
    int32_t row;
    float lower, upper;  // adjusted
  };
  struct Candidate {
    int32_t row;
    double lower, upper, noise;  // after temperature
  };
  struct Member {
    std::vector<Bounds> candidates;
    std::vector<float> probes;  // exact values of the best rows of blocks: of top-k, the k greatest, the least of them first
    float best = -INFINITY;     // greatest value that is certain
    double floor = -INFINITY;   // greatest one plus noise
    // Rows that are only weighed: so far below the best that no truncation ends there unless the winner is there too.
    double light = 0.0, heavy = 0.0, reference = -INFINITY;  // sums of exp(lower - reference) and exp(upper - reference)
    int64_t weighed = 0, read = 0;
  };
  enum class Kept : uint8_t { no, yes, open };

  bool plain() const { return !asked_.greedy() && !asked_.top_k && !asked_.truncated(); }
  double tempered(float logit) const {
    return asked_.greedy() ? static_cast<double>(logit) : static_cast<double>(logit) / asked_.temperature;
  }
  float adjusted(float logit, int64_t row) const { return asked_.adjusted(asked_.cap > 0 ? softcap(logit, asked_.cap) : logit, row); }
  void adjust(float* lower, float* upper, int64_t first, int64_t count) const;
  void probe(Member& mine, float* lower, float* upper, int64_t first, int64_t count, const Reader& read) const;
  float least(const Member& mine) const;
  bool contends(Member& mine, const Bounds& c) const;
  void weigh(Member& mine, double lower, double upper) const;
  void gather();
  void learn(const std::vector<size_t>& places);
  std::vector<size_t> likeliest(size_t count) const;
  size_t best_place();
  double kth_value();
  std::vector<size_t> contenders(size_t best, double lowest);
  // Of `places`, where value plus noise is greatest, after reading what could be.
  size_t winner(const std::vector<size_t>& places);
  Drawn draw();
  Drawn draw_from_top_k(double kth);
  bool in_top_k(size_t place);
  Kept in_nucleus(size_t place, double best);
  Kept compare(size_t place, double best) const;
  Drawn drawn(size_t place) const { return {all_[place].row, read_}; }

  const Sampling asked_;
  const bool bounded_;
  const GumbelNoise noise_;
  std::vector<Member> members_;
  std::vector<Candidate> all_;  // ascending by row
  double light_ = 0.0, heavy_ = 0.0, reference_ = -INFINITY;  // the same of all members
  int64_t weighed_rows_ = 0, read_ = 0;
  const Reader* reader_ = nullptr;
};

// A token for each of the texts. `bounded`: from the upper planes of 8-bit rows; else from all rows, read whole.
std::vector<Drawn> sample(const Head& head, const Query& h, const std::vector<Sampling>& asked, bool bounded);

}  // namespace shortlist
