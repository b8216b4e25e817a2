// The whole distribution from a shortlist; selectors/distribution.py is the readable twin and says why.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "sites/heads.hpp"

namespace shortlist {

namespace {

constexpr int kControl = 256;      // rows, evenly spaced, whose errors say how wide the errors of this query are
constexpr float kTail = 1.1f;      // real errors have heavier tails than normal ones of the same size
constexpr int kBins = 1024;        // of the estimates below the mass that is known, kBinsPerNat for a factor of e
constexpr float kBinsPerNat = 16;

// What is not a number, as from a model whose weights are none, counts as heavy.
int bin_of(float below) { return below > 0.0f ? static_cast<int>(std::min(below * kBinsPerNat, static_cast<float>(kBins - 1))) : 0; }

std::vector<int32_t> control_rows(int64_t rows) {
  const int64_t step = (rows + kControl - 1) / kControl;
  std::vector<int32_t> chosen;
  for (int64_t row = step / 2; row < rows; row += step) chosen.push_back(static_cast<int32_t>(row));
  return chosen;
}

float log_sum_exp(const std::vector<float>& values) {
  const float top = *std::max_element(values.begin(), values.end());
  return top + static_cast<float>(std::log(std::accumulate(values.begin(), values.end(), 0.0, [top](double sum, float v) {
    return sum + std::exp(v - top);
  })));
}

// Half the variance of an error of margin 1, as the errors of the control rows say.
float half_variance_of(const std::vector<int32_t>& control, const std::vector<float>& exact, const float* estimates, const float* margins) {
  double errors = 0.0, squares = 0.0;
  for (size_t i = 0; i < control.size(); i++) {
    const size_t row = static_cast<size_t>(control[i]);
    errors += std::pow(static_cast<double>(exact[i]) - static_cast<double>(estimates[row]), 2);
    squares += std::pow(static_cast<double>(margins[row]), 2);
  }
  return squares > 0 ? static_cast<float>(0.5 * kTail * kTail * errors / squares) : 0.0f;
}

// The first bin from which on the estimates hold no more than `share` of the known mass.
int first_left(const std::vector<int64_t>& counts, double share) {
  double left = 0.0;
  int bin = kBins;
  while (bin > 1 && (left += static_cast<double>(counts[static_cast<size_t>(bin - 1)]) * std::exp(-(bin - 1) / kBinsPerNat)) <= share)
    bin--;
  return bin;
}

// Fills the logits of all rows from estimates. Returns the rows that were not read yet and are to be, so that the others hold at
// most `share` of the known mass.
std::vector<int32_t> heavy_rows(const float* estimates, const float* margins, float half_variance, const std::vector<char>& read,
    float known_mass, double share,
                                float* logits) {
  std::vector<std::vector<int64_t>> counts;  // per member, like parts
  std::vector<std::vector<int32_t>> parts;
  auto prepare = [&](int members) {
    counts.assign(static_cast<size_t>(members), std::vector<int64_t>(kBins, 0));
    parts.resize(static_cast<size_t>(members));
  };
  const int64_t rows = static_cast<int64_t>(read.size());
  Pool::instance().run(prepare, [&](Team& team) {
    const size_t id = static_cast<size_t>(team.id);
    const auto mine = team.share(rows);
    for (int64_t row = mine.begin; row < mine.end; row++) {
      logits[row] = estimates[row] + half_variance * margins[row] * margins[row];
      if (!read[static_cast<size_t>(row)]) counts[id][static_cast<size_t>(bin_of(known_mass - logits[row]))]++;
    }
    team.barrier();
    std::vector<int64_t> all(kBins, 0);
    for (const auto& part : counts)
      for (size_t bin = 0; bin < kBins; bin++) all[bin] += part[bin];
    const int left = first_left(all, share);
    for (int64_t row = mine.begin; row < mine.end; row++)
      if (!read[static_cast<size_t>(row)] && bin_of(known_mass - logits[row]) < left) parts[id].push_back(static_cast<int32_t>(row));
  });
  std::vector<int32_t> heavy;
  for (const auto& part : parts) heavy.insert(heavy.end(), part.begin(), part.end());
  return heavy;
}

}  // namespace

int64_t Head::distribution(const Scorer& scorer, const Query& h, const Policy& policy, double share, float* logits) const {
  Workers::Scope scope(rows_->threads);
  static thread_local Listed listed;
  static thread_local std::vector<char> read;
  list(scorer, h, policy, listed);
  const int64_t rows = rows_->view.rows;
  if (std::all_of(listed.margins, listed.margins + rows, [](float margin) { return margin == 0.0f; })) {
    listed.own_margins.assign(static_cast<size_t>(rows), 1.0f);  // nothing is known of the errors: all are taken to be alike
    listed.margins = listed.own_margins.data();
  }
  auto exact = [&](const std::vector<int32_t>& indices) {
    std::vector<float> values(indices.size());
    exact_rows(h, indices.data(), static_cast<int64_t>(indices.size()), values.data());
    return values;
  };

  const std::vector<float> known_values = exact(listed.rows);
  const float known_mass = log_sum_exp(known_values);
  const std::vector<int32_t> control = control_rows(rows);
  const std::vector<float> control_values = exact(control);
  const float half_variance = half_variance_of(control, control_values, listed.estimates, listed.margins);
  read.assign(static_cast<size_t>(rows), 0);
  for (int32_t row : listed.rows) read[static_cast<size_t>(row)] = 1;
  for (int32_t row : control) read[static_cast<size_t>(row)] = 1;
  const int64_t rows_read = std::count(read.begin(), read.end(), 1);

  const std::vector<int32_t> heavy = heavy_rows(listed.estimates, listed.margins, half_variance, read, known_mass, share, logits);
  auto keep = [logits](const std::vector<int32_t>& indices, const std::vector<float>& values) {
    for (size_t i = 0; i < indices.size(); i++) logits[indices[i]] = values[i];
  };
  keep(listed.rows, known_values);
  keep(control, control_values);
  keep(heavy, exact(heavy));
  return rows_read + static_cast<int64_t>(heavy.size());
}

}  // namespace shortlist
