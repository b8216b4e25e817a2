#include "sites/sampling.hpp"

#include <algorithm>
#include <cmath>

namespace shortlist {

namespace {

constexpr float kCapSlack = 1e-6f;                // of the cap: far more than rounding can move a bound

// A little below a bound, so that the comparison in floats keeps all that one in doubles would.
float below(double bound, double scale) {
  const double slack = 1e-6 * (std::abs(bound) + scale);
  return slack < INFINITY ? static_cast<float>(bound - slack) : -INFINITY;
}

}  // namespace

const NoiseFilter& noise_filter() {
  static const NoiseFilter one;
  return one;
}

float softcap(float logit, float cap) { return cap * std::tanh(logit / cap); }

float Sampling::adjusted(float logit, int64_t row) const {
  if (seen && seen[row]) logit = logit > 0 ? logit / penalty : logit * penalty;
  if (offsets) logit += offsets[row];
  return allowed && !allowed[row] ? -INFINITY : logit;
}

void Lot::adjust(float* lower, float* upper, int64_t first, int64_t count) const {
  if (asked_.cap > 0)
    for (int64_t i = 0; i < count; i++) {
      const float slack = lower[i] < upper[i] ? kCapSlack * asked_.cap : 0.0f;
      lower[i] = softcap(lower[i], asked_.cap) - slack, upper[i] = softcap(upper[i], asked_.cap) + slack;
    }
  if (asked_.seen || asked_.offsets || asked_.allowed)
    for (int64_t i = 0; i < count; i++) lower[i] = asked_.adjusted(lower[i], first + i), upper[i] = asked_.adjusted(upper[i], first + i);
}

// Learns what is certain: the value of the row in the middle of the highest bounds, where that may say more than is known.
void Lot::probe(Member& mine, float* lower, float* upper, int64_t first, int64_t count, const Reader& read) const {
  float middle[kMost], value;
  for (int64_t i = 0; i < count; i++) middle[i] = lower[i] + upper[i];
  int64_t at;
  kernels().argmax(middle, count, &value, &at);
  const float wanted = asked_.top_k ? (static_cast<int64_t>(mine.probes.size()) < asked_.top_k ? -INFINITY : mine.probes[0]) : mine.best;
  if (lower[at] < upper[at] && upper[at] > wanted) {
    const int32_t row = static_cast<int32_t>(first + at);
    read(&row, 1, &value);
    lower[at] = upper[at] = adjusted(value, row);
    mine.read++;
  }
  mine.best = std::max(mine.best, lower[at]);
  if (asked_.top_k && lower[at] == upper[at] && lower[at] > wanted) {
    auto& kept = mine.probes;
    kept.push_back(lower[at]);
    std::push_heap(kept.begin(), kept.end(), std::greater<>());
    if (static_cast<int64_t>(kept.size()) > asked_.top_k) std::pop_heap(kept.begin(), kept.end(), std::greater<>()), kept.pop_back();
  }
  if (plain()) mine.floor = std::max(mine.floor, tempered(lower[at]) + static_cast<double>(noise_(static_cast<uint64_t>(first + at))));
}

// The least upper bound with which a row may still matter, by what this member knows.
float Lot::least(const Member& mine) const {
  if (asked_.greedy()) return mine.best;
  const double t = asked_.temperature, best = static_cast<double>(mine.best);
  if (plain()) return below((mine.floor - kMaxNoise) * t, t * kMaxNoise);
  const double depth = asked_.top_p < 1 ? kReach : std::min(kReach, -asked_.log_min_p);  // top-p weighs all rows in reach
  const float reach = below(best - t * depth, t * depth);
  return asked_.top_k && static_cast<int64_t>(mine.probes.size()) == asked_.top_k ? std::max(reach, mine.probes[0]) : reach;
}

// Whether noise can lift a row to the floor.
bool Lot::contends(Member& mine, const Bounds& c) const {
  const double upper = tempered(c.upper);
  const uint32_t needed = noise_filter().least(mine.floor - upper);
  if (needed == NoiseFilter::kNever) return false;
  const uint32_t bits = noise_.bits(static_cast<uint64_t>(c.row));
  if (bits < needed) return false;
  const double noise = static_cast<double>(GumbelNoise::of(bits));
  if (upper + noise < mine.floor) return false;
  mine.floor = std::max(mine.floor, tempered(c.lower) + noise);
  return true;
}

// Adds a row to those that are only weighed.
void Lot::weigh(Member& mine, double lower, double upper) const {
  const double best = tempered(mine.best);
  if (best > mine.reference) {
    const double less = std::exp(mine.reference - best);
    mine.light *= less, mine.heavy *= less, mine.reference = best;
  }
  auto weight = [&](double v) { return v >= best - kReach ? static_cast<double>(std::exp(static_cast<float>(v - best))) : 0.0; };
  const double heavy = weight(upper);
  mine.heavy += heavy;
  mine.light += lower < upper ? weight(lower) : heavy;
  mine.weighed++;
}

void Lot::take(int member, float* lower, float* upper, int64_t first, int64_t count, const Reader& read) {
  Member& mine = members_[static_cast<size_t>(member)];
  adjust(lower, upper, first, count);
  probe(mine, lower, upper, first, count, read);
  static const std::vector<float> no_margin(kMost, 0.0f);
  int32_t rows[kMost];
  const int64_t n = kernels().reaching(upper, no_margin.data(), 0.0f, count, least(mine), 0, rows);
  const bool weighs = asked_.top_p < 1 && !asked_.top_k;
  // Of rows that are only weighed none may be a rival: the noise of the best row is the least that a floor can be.
  if (weighs) mine.floor = std::max(mine.floor, tempered(mine.best) + kMinNoise);
  const double from = tempered(mine.best) - (bounded_ ? kWeighedBounds : kWeighedValues);
  for (int64_t i = 0; i < n; i++) {
    const Bounds c{static_cast<int32_t>(first + rows[i]), lower[rows[i]], upper[rows[i]]};
    if (c.upper == -INFINITY || (plain() && !contends(mine, c))) continue;
    if (weighs && tempered(c.upper) < from && !contends(mine, c))
      weigh(mine, tempered(c.lower), tempered(c.upper));
    else
      mine.candidates.push_back(c);
  }
}

std::vector<Drawn> sample(const Head& head, const Query& h, const std::vector<Sampling>& asked, bool bounded) {
  const Rows& rows = head.rows();
  const RowsView& m = rows.view;
  if (asked.size() != h.count()) throw std::invalid_argument("each hidden state needs its settings");
  if (bounded && (m.format.bits != 8 || m.format.kind != Kind::Quantized))
    throw std::invalid_argument("bounds need 8-bit rows; these are " + m.format.name());
  Workers::Scope scope(rows.threads);
  std::vector<Lot> lots;
  for (const Sampling& each : asked) lots.emplace_back(each, bounded);
  auto prepare = [&](int members) {
    for (Lot& lot : lots) lot.seat(members);
  };
  Pool::instance().run(prepare, [&](Team& team) {
    const size_t room = static_cast<size_t>(Lot::kMost) * h.count();
    std::vector<float> lower(room), upper(room);
    const auto share = team.share(m.rows, 16);
    for (int64_t at = share.begin; at < share.end; at += Lot::kMost) {
      const int64_t count = std::min(Lot::kMost, share.end - at);
      if (bounded)
        kernels().dot_upper(m, h.batch(), at, at + count, lower.data(), upper.data(), Lot::kMost);
      else
        kernels().gemm(m, h.batch(), at, at + count, lower.data(), Lot::kMost);
      for (size_t q = 0; q < lots.size(); q++) {
        float *low = &lower[q * Lot::kMost], *high = &upper[q * Lot::kMost];
        check_finite(rows, low, count);
        for (int64_t i = 0; i < count; i++) {
          const float middle = low[i], radius = bounded ? high[i] : 0.0f;
          low[i] = middle - radius, high[i] = middle + radius;
        }
        const Batch x = h.batch().token(static_cast<int>(q));
        lots[q].take(team.id, low, high, at, count, [&](const int32_t* listed, int64_t n, float* values) {
          kernels().dot_list(m, x, listed, n, values);
          check_finite(rows, values, n);
        });
      }
    }
  });
  std::vector<Drawn> drawn;
  for (size_t q = 0; q < lots.size(); q++) {
    const Batch x = h.batch().token(static_cast<int>(q));
    drawn.push_back(lots[q].settle([&](const int32_t* listed, int64_t count, float* values) {
      auto read = [&](int64_t begin, int64_t end) {
        kernels().dot_list(m, x, listed + begin, end - begin, values + begin);
        check_finite(rows, values + begin, end - begin);
      };
      constexpr int64_t few = 64;  // rows that are not worth a job
      if (count <= few) return read(0, count);
      Pool::instance().run([&](Team& team) {
        const auto share = team.share(count, 16);
        read(share.begin, share.end);
      });
    }));
  }
  return drawn;
}

}  // namespace shortlist
