// How the draw of one text is settled, once all bounds are taken.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "sites/sampling.hpp"

namespace shortlist {

namespace {

constexpr double kMargin = 1e-9;                  // relative, of sums of doubles: they are off by 3e-11 at most for 2^18 rows
constexpr double kFloatMargin = 1e-5;             // and of sums of weights that are computed in floats: off by 2e-6 each
constexpr size_t kBeforeRead = 16384;             // more rows one by one cost as much as all in a row

// The sum of the `count` greatest, or of all.
double sum_of_greatest(std::vector<float>& weights, int64_t count) {
  if (count <= 0) return 0.0;
  if (count < static_cast<int64_t>(weights.size())) {
    std::nth_element(weights.begin(), weights.begin() + count - 1, weights.end(), std::greater<>());
    weights.resize(static_cast<size_t>(count));
  }
  return std::accumulate(weights.begin(), weights.end(), 0.0);
}

}  // namespace

// The candidates of all members that still matter by what all know together.
void Lot::gather() {
  Member together;
  for (const Member& m : members_) {
    together.best = std::max(together.best, m.best);
    together.floor = std::max(together.floor, m.floor);
    if (static_cast<int64_t>(m.probes.size()) == asked_.top_k && (together.probes.empty() || m.probes[0] > together.probes[0]))
      together.probes = m.probes;
    read_ += m.read;
  }
  const double best = tempered(together.best);
  for (const Member& m : members_) {
    weighed_rows_ += m.weighed;
    if (!m.weighed) continue;
    light_ += m.light * std::exp(m.reference - best);
    heavy_ += m.heavy * std::exp(m.reference - best);
  }
  reference_ = best;
  const float lowest = least(together);
  for (const Member& m : members_)
    for (const Bounds& c : m.candidates)
      if (c.upper >= lowest) all_.push_back({c.row, tempered(c.lower), tempered(c.upper), 0.0});
  members_.clear();
}

// Reads the rows at `places` that are not known.
void Lot::learn(const std::vector<size_t>& places) {
  std::vector<int32_t> rows;
  std::vector<size_t> unknown;
  for (size_t place : places)
    if (all_[place].lower < all_[place].upper) unknown.push_back(place), rows.push_back(all_[place].row);
  if (rows.empty()) return;
  std::vector<float> values(rows.size());
  (*reader_)(rows.data(), static_cast<int64_t>(rows.size()), values.data());
  for (size_t i = 0; i < rows.size(); i++) all_[unknown[i]].lower = all_[unknown[i]].upper = tempered(adjusted(values[i], rows[i]));
  read_ += static_cast<int64_t>(rows.size());
}

// Where the middles of the bounds are greatest.
std::vector<size_t> Lot::likeliest(size_t count) const {
  std::vector<size_t> places(all_.size());
  std::iota(places.begin(), places.end(), size_t{0});
  if (count < places.size()) {
    auto before = [&](size_t a, size_t b) { return all_[a].lower + all_[a].upper > all_[b].lower + all_[b].upper; };
    std::nth_element(places.begin(), places.begin() + static_cast<int64_t>(count) - 1, places.end(), before);
    places.resize(count);
    std::sort(places.begin(), places.end());
  }
  return places;
}

// Where the greatest value is, the first of equals; it is known afterwards.
size_t Lot::best_place() {
  learn(likeliest(1));
  double most = -INFINITY;
  for (const Candidate& c : all_) most = std::max(most, c.lower);
  std::vector<size_t> places;
  for (size_t i = 0; i < all_.size(); i++)
    if (all_[i].upper >= most) places.push_back(i);
  learn(places);
  size_t best = places[0];
  for (size_t place : places)
    if (all_[place].lower > all_[best].lower) best = place;
  return best;
}

// A value that k rows certainly reach, close to the k-th greatest, after reading the k likeliest.
double Lot::kth_value() {
  if (asked_.top_k >= static_cast<int64_t>(all_.size())) return -INFINITY;
  const std::vector<size_t> likely = likeliest(static_cast<size_t>(asked_.top_k));
  learn(likely);
  double least = INFINITY;
  for (size_t place : likely) least = std::min(least, all_[place].lower);
  return least;
}

// Where the rows are that could win against the best one, with their noise.
std::vector<size_t> Lot::contenders(size_t best, double lowest) {
  const double floor = all_[best].lower + static_cast<double>(noise_(static_cast<uint64_t>(all_[best].row)));
  std::vector<size_t> places;
  for (size_t i = 0; i < all_.size(); i++) {
    Candidate& c = all_[i];
    if (c.upper < lowest) continue;
    const uint32_t needed = noise_filter().least(floor - c.upper);
    if (needed == NoiseFilter::kNever) continue;
    const uint32_t bits = noise_.bits(static_cast<uint64_t>(c.row));
    if (bits < needed) continue;
    c.noise = static_cast<double>(GumbelNoise::of(bits));
    if (c.upper + c.noise >= floor) places.push_back(i);
  }
  return places;
}

size_t Lot::winner(const std::vector<size_t>& places) {
  size_t likeliest = places[0];
  auto looks = [&](size_t place) { return all_[place].lower + all_[place].upper + 2 * all_[place].noise; };
  for (size_t place : places)
    if (looks(place) > looks(likeliest)) likeliest = place;
  learn({likeliest});
  double certain = -INFINITY;
  for (size_t place : places) certain = std::max(certain, all_[place].lower + all_[place].noise);
  std::vector<size_t> possible;
  for (size_t place : places)
    if (all_[place].upper + all_[place].noise >= certain) possible.push_back(place);
  learn(possible);
  size_t first = possible[0];
  for (size_t place : possible)
    if (all_[place].lower + all_[place].noise > all_[first].lower + all_[first].noise) first = place;
  return first;
}

Drawn Lot::settle(const Reader& read) {
  reader_ = &read;
  gather();
  if (all_.empty()) return {-1, read_};
  if (asked_.greedy()) return drawn(best_place());
  if (!plain()) return draw();
  for (Candidate& c : all_) c.noise = static_cast<double>(noise_(static_cast<uint64_t>(c.row)));
  return drawn(winner(likeliest(all_.size())));
}

Drawn Lot::draw() {
  const size_t best = best_place();
  const double top = all_[best].lower, kth = asked_.top_k ? kth_value()
      : -INFINITY, lowest = std::max({kth, top + asked_.log_min_p, top - kReach});
  std::vector<size_t> places = contenders(best, lowest);
  while (true) {  // ends at the best row at the latest
    const size_t first = winner(places);
    const double value = all_[first].lower;
    Kept kept = value >= lowest && (!asked_.top_k || in_top_k(first)) ? Kept::yes : Kept::no;
    if (kept == Kept::yes && asked_.top_p < 1 && first != best) kept = in_nucleus(first, top);
    if (kept == Kept::open) return asked_.top_k ? draw_from_top_k(kth) : Drawn{-1, read_};
    if (kept == Kept::yes) return drawn(first);
    // A row that certainly comes after one that was not kept is not kept either.
    places.erase(std::remove_if(places.begin(), places.end(), [&](size_t i) { return i == first || all_[i].upper < value; }), places.end());
  }
}

// The definition's own steps, on the k rows of top-k, all of them read.
Drawn Lot::draw_from_top_k(double kth) {
  std::vector<size_t> places;
  for (size_t i = 0; i < all_.size(); i++)
    if (all_[i].upper >= kth) places.push_back(i);
  learn(places);
  std::stable_sort(places.begin(), places.end(), [&](size_t a, size_t b) { return all_[a].lower > all_[b].lower; });
  const double best = all_[places[0]].lower;
  auto cut = [&](double lowest) {
    while (all_[places.back()].lower < lowest) places.pop_back();
  };
  if (static_cast<int64_t>(places.size()) > asked_.top_k) places.resize(static_cast<size_t>(asked_.top_k));
  cut(best - kReach);
  double total = 0.0, before = 0.0;
  for (size_t place : places) total += std::exp(all_[place].lower - best);
  const double share = asked_.top_p * total;
  size_t kept = 0;
  for (; kept < places.size(); kept++) {
    if (kept && std::abs(before - share) <= kMargin * total) return {-1, read_};
    if (kept && !(before < share)) break;
    before += std::exp(all_[places[kept]].lower - best);
  }
  places.resize(kept);
  cut(best + asked_.log_min_p);
  for (size_t place : places) all_[place].noise = static_cast<double>(noise_(static_cast<uint64_t>(all_[place].row)));
  std::sort(places.begin(), places.end());
  return drawn(winner(places));
}

// Whether fewer than k rows come before the one at `place`.
bool Lot::in_top_k(size_t place) {
  const double value = all_[place].lower;
  int64_t reaching = 0, before = 0;
  std::vector<size_t> doubtful;
  for (size_t i = 0; i < all_.size(); i++) {
    if (all_[i].upper < value) continue;
    reaching++;  // the row itself is among them
    if (all_[i].lower <= value) doubtful.push_back(i);
  }
  if (reaching <= asked_.top_k) return true;
  learn(doubtful);
  for (size_t i = 0; i < all_.size(); i++) before += all_[i].lower > value || (i < place && all_[i].lower == value);
  return before < asked_.top_k;
}

// Whether top-p keeps a row, or that cannot be told: by bounds, or else with the rows before it read, where they are not too many.
Lot::Kept Lot::in_nucleus(size_t place, double best) {
  const Kept kept = compare(place, best);
  if (kept != Kept::open) return kept;
  std::vector<size_t> possible;
  for (size_t i = 0; i < all_.size(); i++)
    if (all_[i].upper >= all_[place].lower && all_[i].lower < all_[i].upper) possible.push_back(i);
  if (possible.empty() || possible.size() > kBeforeRead) return kept;
  learn(possible);
  return compare(place, best);
}

// With B the weight of the rows before it and A that of the rows from it on, top-p keeps a row if B < share * (A + B), that is if
// (1 - share) * B < share * A. With top-k, A is that of k rows less those of B.
Lot::Kept Lot::compare(size_t place, double best) const {
  const double share = asked_.top_p, value = all_[place].lower;
  auto weight = [&](double v) { return v >= best - kReach ? std::exp(static_cast<float>(v - best)) : 0.0f; };
  double before_least = 0.0, before_most = 0.0, after_least = 0.0, after_most = 0.0;
  int64_t certain = 0, possible = 0;
  std::vector<float> light_after, heavy_after;  // of top-k
  for (size_t i = 0; i < all_.size(); i++) {
    const Candidate& c = all_[i];
    const float light = weight(c.lower), heavy = c.lower < c.upper ? weight(c.upper) : light;
    // The row itself is after, and so are its equals of higher rows; those of lower rows are before.
    const bool surely = i != place && (c.lower > value || (c.lower == value && i < place));
    const bool maybe = i != place && (c.upper > value || (c.upper == value && i < place));
    certain += surely, possible += maybe;
    if (surely) before_least += static_cast<double>(light);
    if (maybe) before_most += static_cast<double>(heavy);
    if (asked_.top_k) {
      if (!maybe) light_after.push_back(light);
      if (!surely) heavy_after.push_back(heavy);
    } else {
      if (!maybe) after_least += static_cast<double>(light);
      if (!surely) after_most += static_cast<double>(heavy);
    }
  }
  if (asked_.top_k) {
    after_least = sum_of_greatest(light_after, asked_.top_k - possible);
    after_most = sum_of_greatest(heavy_after, asked_.top_k - certain);
  }
  // Rows that are only weighed come after, unless the winner is among them. Some of them may be out of the reach of the best row.
  const double scale = std::exp(reference_ - best);
  after_most += heavy_ * scale;
  if (value < reference_ - (bounded_ ? kWeighedBounds : kWeighedValues))
    before_most += heavy_ * scale;
  else
    after_least += std::max(0.0, light_ * scale - static_cast<double>(weighed_rows_) * std::exp(-kReach));
  const double margin = kFloatMargin * (before_most + after_most);
  if ((1 - share) * before_most + margin < share * after_least) return Kept::yes;
  return (1 - share) * before_least - margin >= share * after_most ? Kept::no : Kept::open;
}

}  // namespace shortlist
