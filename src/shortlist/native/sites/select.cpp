#include "sites/select.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "kernels/kernels.hpp"

namespace shortlist {

void check_finite(const Rows& rows, const float* logits, int64_t count) {
  if (!all_finite(logits, count))
    throw NotFinite((rows.source.empty() ? "the head" : rows.source) +
        ": the head computes logits that are not finite numbers, so the file is damaged: " +
                    "fetch it again, or convert it again");
}

// ---- the best of many -----------------------------------------------------------------------------------------------

namespace {

constexpr int64_t kSamples = 1024;  // values that say where the best are likely to end
constexpr int64_t kStrip = 4096;    // values that are compared with that end in one call

float number(float value) { return std::isnan(value) ? -INFINITY : value; }  // so that the order is total

// A value that more than `count` of the values are likely to reach: sorting all of them would cost more than scoring them.
float likely_end(const float* values, int64_t n, int64_t count, std::vector<float>& sample) {
  const int64_t samples = std::min(n, kSamples), step = n / samples;
  sample.clear();
  for (int64_t i = 0; i < samples; i++) sample.push_back(number(values[i * step]));
  const double expected = static_cast<double>(count) * static_cast<double>(samples) / static_cast<double>(n);
  const int64_t rank = static_cast<int64_t>(expected + 4.0 * std::sqrt(expected) + 4.0);  // four deviations of the sampling
  if (rank >= samples) return -INFINITY;
  std::nth_element(sample.begin(), sample.begin() + rank, sample.end(), std::greater<>());
  return sample[static_cast<size_t>(rank)];
}

// The places of [begin, end) whose value alone reaches the mark, ascending, into `out` (room for all); returns how many.
int64_t reaching_alone(const float* values, int64_t begin, int64_t end, float mark, int32_t* out) {
  static const std::vector<float> no_margin(kStrip, 0.0f);
  int64_t kept = 0;
  for (; begin < end; begin += kStrip)
    kept += kernels().reaching(values + begin, no_margin.data(), 0.0f, std::min(kStrip, end - begin), mark, static_cast<int32_t>(begin),
        out + kept);
  return kept;
}

}  // namespace

void best_places(const float* values, int64_t n, int64_t count, std::vector<float>& sample, std::vector<int32_t>& possible, int32_t* out) {
  possible.resize(static_cast<size_t>(n));
  int64_t kept = reaching_alone(values, 0, n, likely_end(values, n, count, sample), possible.data());
  if (kept < count) {
    std::iota(possible.begin(), possible.end(), 0);
    kept = n;
  }
  // The value of the last that belongs to the best, and how many of its equals do: no sort by value, then by place.
  sample.clear();
  for (int64_t i = 0; i < kept; i++) sample.push_back(number(values[possible[static_cast<size_t>(i)]]));
  std::nth_element(sample.begin(), sample.begin() + (count - 1), sample.end(), std::greater<>());
  const float last = sample[static_cast<size_t>(count - 1)];
  int64_t equals = count - std::count_if(sample.begin(), sample.begin() + count, [&](float v) { return v > last; });
  for (int64_t i = 0; i < kept; i++) {
    const int32_t place = possible[static_cast<size_t>(i)];
    const float value = number(values[place]);
    if (value > last || (value == last && equals-- > 0)) *out++ = place;
  }
}

// ---- one query ------------------------------------------------------------------------------------------------------

void Selection::probe(const Team& team, int64_t begin, int64_t end) {
  Runner& mine = runners_[static_cast<size_t>(team.id)];
  float value;
  int64_t where;
  kernels().argmax(scores_.values(query_) + begin, end - begin, &value, &where);
  const int32_t place = static_cast<int32_t>(begin + where);
  if (policy_.mark == Policy::Mark::Probes) mine.first.push_back(place);
  if (mine.best_place < 0 || value > mine.best_score) mine.best_score = value, mine.best_place = place;
}

void Selection::read_probes(const Team& team) {
  Runner& mine = runners_[static_cast<size_t>(team.id)];
  read(mine.first, mine);
  mine.mark = mine.best.value;
}

void Selection::gather(const Team& team, int64_t begin, int64_t end) {
  Runner& mine = runners_[static_cast<size_t>(team.id)];
  const float* values = scores_.values(query_);
  // Kept between queries: fresh memory for every row would cost a page fault per thousand of them.
  static thread_local std::vector<int32_t> room;
  static thread_local std::vector<float> sample;
  if (policy_.mark == Policy::Mark::KthBest) {  // one member finds them for all
    const int64_t n = rows_.view.rows, count = std::min(policy_.fetch, n);
    if (static_cast<size_t>(team.id) != query_ % static_cast<size_t>(team.size)) return;
    mine.reached.resize(static_cast<size_t>(count));
    return best_places(values, n, count, sample, room, mine.reached.data());
  }
  room.resize(std::max(room.size(), static_cast<size_t>(end - begin)));
  const float to_reach = policy_.mark == Policy::Mark::Threshold ? policy_.threshold : mark();
  const int64_t count = policy_.times == 0.0f && policy_.mark == Policy::Mark::Threshold  // a margin of infinity says nothing then
                            ? reaching_alone(values, begin, end, to_reach, room.data())
                            : kernels().reaching(values + begin, scores_.margins(query_) + begin, policy_.times * scores_.scale(query_),
                                end - begin, to_reach,
                                                 static_cast<int32_t>(begin), room.data());
  mine.reached.assign(room.begin(), room.begin() + count);
}

void Selection::take_best() {
  if (reached() != 0) return;
  const Runner* best = &runners_[0];
  for (const Runner& runner : runners_)  // in the order of their places, so that the lowest of equals stays
    if (runner.best_place >= 0 && (best->best_place < 0 || runner.best_score > best->best_score)) best = &runner;
  runners_[0].reached.push_back(best->best_place);
}

int64_t Selection::reached() const {
  int64_t count = 0;
  for (const Runner& runner : runners_) count += static_cast<int64_t>(runner.reached.size());
  return count;
}

std::vector<int32_t> Selection::shortlist() const {
  std::vector<int32_t> all;
  for (const Runner& runner : runners_)
    std::set_union(runner.first.begin(), runner.first.end(), runner.reached.begin(), runner.reached.end(), std::back_inserter(all));
  for (int32_t& place : all) place = row(place);
  if (order_) std::sort(all.begin(), all.end());
  return all;
}

void Selection::finish(Team& team, bool sift) {
  Runner& mine = runners_[static_cast<size_t>(team.id)];
  std::vector<int32_t> places = part_of_reached(team);
  if (sift && policy_.mark == Policy::Mark::Probes) {
    std::vector<int32_t> rows;
    for (int32_t place : places) rows.push_back(row(place));
    std::vector<float> middle(rows.size()), radius(rows.size());
    kernels().dot_upper_list(rows_.view, x_, rows.data(), static_cast<int64_t>(rows.size()), middle.data(), radius.data());
    mine.best.upper += static_cast<int64_t>(rows.size());
    const float to_reach = mark();
    size_t kept = 0;
    for (size_t i = 0; i < places.size(); i++)
      if (!(middle[i] + radius[i] < to_reach)) places[kept++] = places[i];
    places.resize(kept);
  }
  read(places, mine);
}

static void beat(Winner& best, int64_t token, float value) {
  if (value > best.value || (value == best.value && token < best.token)) best.token = token, best.value = value;
}

Winner Selection::winner() const {
  Winner all;
  for (const Runner& runner : runners_) {
    beat(all, runner.best.token, runner.best.value);
    all.rows += runner.best.rows;
    all.upper += runner.best.upper;
  }
  return all;
}

float Selection::mark() const {
  float mark = -INFINITY;
  for (const Runner& runner : runners_) mark = std::max(mark, runner.mark);
  return mark;
}

// This member's part of the places that reached the mark, without the probes, which are read already.
std::vector<int32_t> Selection::part_of_reached(const Team& team) const {
  const auto share = team.share(reached(), 8);
  std::vector<int32_t> places;
  int64_t at = 0;
  for (const Runner& runner : runners_) {
    const int64_t begin = std::clamp(share.begin - at, int64_t{0}, static_cast<int64_t>(runner.reached.size()));
    const int64_t end = std::clamp(share.end - at, int64_t{0}, static_cast<int64_t>(runner.reached.size()));
    std::set_difference(runner.reached.begin() + begin, runner.reached.begin() + end, runner.first.begin(), runner.first.end(),
        std::back_inserter(places));
    at += static_cast<int64_t>(runner.reached.size());
  }
  return places;
}

void Selection::read(const std::vector<int32_t>& places, Runner& mine) const {
  std::vector<int32_t> rows(places.size());
  std::transform(places.begin(), places.end(), rows.begin(), [this](int32_t place) { return row(place); });
  std::vector<float> values(rows.size());
  kernels().dot_list(rows_.view, x_, rows.data(), static_cast<int64_t>(rows.size()), values.data());
  check_finite(rows_, values.data(), static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); i++) beat(mine.best, rows[i], values[i]);
  mine.best.rows += static_cast<int64_t>(rows.size());
}

// ---- all queries ----------------------------------------------------------------------------------------------------

void select(Team& team, Scores& scores, std::vector<Selection>& selections, const Rows& rows, const Policy& policy) {
  scores.encode(team);
  const int64_t n = rows.view.rows, block = (n + policy.probes - 1) / policy.probes;
  const auto share = team.share(n, block);
  for (int64_t at = share.begin; at < share.end; at += block) {
    const int64_t end = std::min(at + block, share.end);
    scores.fill(at, end);
    for (size_t q = 0; q < selections.size(); q++) {
      check_finite(rows, scores.values(q) + at, end - at);
      selections[q].probe(team, at, end);
    }
  }
  for (Selection& selection : selections) selection.read_probes(team);
  team.barrier();
  for (Selection& selection : selections) selection.gather(team, share.begin, share.end);
  team.barrier();
  if (policy.mark == Policy::Mark::Probes) return;
  if (team.id == 0)
    for (Selection& selection : selections) selection.take_best();
  team.barrier();
}

}  // namespace shortlist
