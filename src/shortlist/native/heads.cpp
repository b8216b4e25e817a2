#include "heads.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>

namespace shortlist {

namespace {

// selectors/confidence.py and selectors/certified.py as one job of the pool. The rows are cut into `probes` blocks; score()
// scores a block, whose best row is read; the best exact value is the mark; rows whose score + scale * margin reaches it
// are read too. Blocks do not depend on the number of threads, so neither do the rows that are read.
struct Race {
  const Head& head;
  const Query& h;
  int probes;
  int64_t most;  // where more rows reach the mark, those with the largest score + scale / 3 * margin are kept
  const float *scores, *margins;

  // prepare(team) ends with a barrier and returns the scale of the margins; score(begin, end) fills the scores of a block.
  // Fills the rows that were read, ascending, and their exact values.
  template <class Prepare, class Score>
  Winner run(Prepare prepare, Score score, std::vector<int32_t>& rows, std::vector<float>& values) const {
    const size_t members = static_cast<size_t>(Pool::instance().threads());
    std::vector<float> marks(members, -INFINITY);
    std::vector<std::vector<int32_t>> firsts(members), possibles(members);
    const RowsView& m = head.rows().view;
    const int64_t block = (m.rows + probes - 1) / probes;
    Pool::instance().run([&](Team& team) {
      const float scale = prepare(team);
      const size_t id = static_cast<size_t>(team.id);
      const auto share = team.share(m.rows, block);
      std::vector<int32_t>&first = firsts[id], &possible = possibles[id];
      for (int64_t at = share.begin; at < share.end; at += block) {
        const int64_t end = std::min(at + block, share.end);
        score(at, end);
        float value;
        int64_t where;
        kernels().argmax(scores + at, end - at, &value, &where);
        first.push_back(static_cast<int32_t>(at + where));
      }
      std::vector<float> first_values(first.size());
      kernels().dot_list(m, h.batch(), first.data(), static_cast<int64_t>(first.size()), first_values.data());
      for (float v : first_values) marks[id] = std::max(marks[id], v);
      team.barrier();
      const float mark = *std::max_element(marks.begin(), marks.end());
      // Kept between queries: fresh memory for every row would cost a page fault per thousand of them.
      static thread_local std::vector<int32_t> room;
      room.resize(std::max(room.size(), static_cast<size_t>(share.end - share.begin)));
      const int64_t count = kernels().reaching(scores + share.begin, margins + share.begin, scale, share.end - share.begin, mark,
                                               static_cast<int32_t>(share.begin), room.data());
      possible.assign(room.begin(), room.begin() + count);
      team.barrier();
      if (id == 0) {
        rows = chosen(firsts, possibles, scale / 3);
        values.resize(rows.size());
      }
      team.barrier();
      const auto mine = team.share(static_cast<int64_t>(rows.size()), 8);
      kernels().dot_list(m, h.batch(), rows.data() + mine.begin, mine.end - mine.begin, values.data() + mine.begin);
    });
    // The largest value and, on a tie, the lowest row, as an argmax over all rows would give.
    const size_t best = static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
    return {rows[best], values[best], static_cast<int64_t>(rows.size())};
  }

  std::vector<int32_t> chosen(const std::vector<std::vector<int32_t>>& firsts, const std::vector<std::vector<int32_t>>& possibles, float scale) const {
    std::vector<int32_t> first, possible, all;
    for (const auto& part : firsts) first.insert(first.end(), part.begin(), part.end());
    for (const auto& part : possibles) possible.insert(possible.end(), part.begin(), part.end());
    if (static_cast<int64_t>(possible.size()) > most) {
      auto before = [&](int32_t a, int32_t b) {
        const float x = scores[a] + scale * margins[a], y = scores[b] + scale * margins[b];
        return x != y ? x > y : a < b;
      };
      std::nth_element(possible.begin(), possible.begin() + most, possible.end(), before);
      possible.resize(static_cast<size_t>(most));
      std::sort(possible.begin(), possible.end());
    }
    std::set_union(first.begin(), first.end(), possible.begin(), possible.end(), std::back_inserter(all));
    return all;
  }
};

}  // namespace

Head::Head(Matrix rows) : rows_(std::move(rows)) {
  if (rows_->view.tiled) throw std::invalid_argument("a head is read by row: pack it without tiles");
}

void Head::dense(const Query& h, float* logits) const {
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(rows_->view.rows, 16);
    kernels().dot_range(rows_->view, h.batch(), share.begin, share.end, logits + share.begin);
  });
}

Winner Head::dense_argmax(const Query& h) {
  middle_.resize(static_cast<size_t>(rows_->view.rows));
  dense(h, middle_.data());
  Winner winner;
  kernels().argmax(middle_.data(), rows_->view.rows, &winner.value, &winner.token);
  winner.rows = rows_->view.rows;
  return winner;
}

void Head::exact_rows(const Query& h, const int32_t* indices, int64_t count, float* values) const {
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(count, 16);
    kernels().dot_list(rows_->view, h.batch(), indices + share.begin, share.end - share.begin, values + share.begin);
  });
}

void Head::bounds(const Query& h, float* middle, float* radius) const {
  if (rows_->view.format.bits != 8 || rows_->view.format.kind != Kind::Quantized)
    throw std::invalid_argument("bounds need 8-bit rows; these are " + rows_->view.format.name());
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(rows_->view.rows, 16);
    kernels().dot_upper(rows_->view, h.batch(), share.begin, share.end, middle + share.begin, radius + share.begin);
  });
}

Winner Head::certified_argmax(const Query& h) {
  const RowsView& m = rows_->view;
  if (m.format.bits != 8 || m.format.kind != Kind::Quantized)
    throw std::invalid_argument("the certified head needs 8-bit rows; these are " + m.format.name());
  middle_.resize(static_cast<size_t>(m.rows));
  radius_.resize(static_cast<size_t>(m.rows));
  auto score = [&](int64_t begin, int64_t end) { kernels().dot_upper(m, h.batch(), begin, end, middle_.data() + begin, radius_.data() + begin); };
  std::vector<int32_t> rows;
  std::vector<float> values;
  return Race{*this, h, kProbes, m.rows, middle_.data(), radius_.data()}.run([](Team&) { return 1.0f; }, score, rows, values);
}

LowRank::LowRank(Matrix projection, Matrix codes, std::vector<float> residual)
    : projection_(std::move(projection)), codes_(std::move(codes)), residual_(std::move(residual)) {
  if (projection_->view.rows != projection_->view.cols || codes_->view.cols > projection_->view.rows ||
      residual_.size() != static_cast<size_t>(codes_->view.rows))
    throw std::invalid_argument("projection, codes and residual do not fit together");
}

float LowRank::encode(Team& team, const Query& h, std::vector<float>& rotated, Activations& code) const {
  const int width = static_cast<int>(projection_->view.rows), rank = codes_->view.cols;
  const auto share = team.share(width, 16);
  kernels().dot_range(projection_->view, h.batch(), share.begin, share.end, rotated.data() + share.begin);
  team.barrier();
  if (team.id == 0) {
    std::copy_n(rotated.data(), rank, code.x(0));
    code.quantize(0);
  }
  double rest = 0.0;
  for (int i = rank; i < width; i++) rest += static_cast<double>(rotated[static_cast<size_t>(i)]) * static_cast<double>(rotated[static_cast<size_t>(i)]);
  team.barrier();
  return width > rank ? static_cast<float>(std::sqrt(rest / (width - rank))) : 0.0f;
}

void LowRank::estimate(const Query& h, float* values, float* spread) const {
  Activations code(codes_->view.cols);
  code.reserve(1);
  std::vector<float> rotated(static_cast<size_t>(projection_->view.rows));
  Pool::instance().run([&](Team& team) {
    const float t = encode(team, h, rotated, code);
    const auto share = team.share(codes_->view.rows, 16);
    kernels().dot_range(codes_->view, code.batch(1), share.begin, share.end, values + share.begin);
    for (int64_t r = share.begin; r < share.end; r++) spread[r] = residual_[static_cast<size_t>(r)] * t;
  });
}

Winner LowRank::shortlist(const Query& h, const Head& head, float sigma, int64_t most, int probes, std::vector<int32_t>& indices, std::vector<float>& values,
                          std::vector<float>& estimates, float& unit) const {
  if (head.rows().view.rows != codes_->view.rows) throw std::invalid_argument("the estimator was fitted on another head");
  estimates.resize(residual_.size());
  Activations code(codes_->view.cols);
  code.reserve(1);
  std::vector<float> rotated(static_cast<size_t>(projection_->view.rows));
  auto prepare = [&](Team& team) {
    const float t = encode(team, h, rotated, code);
    if (team.id == 0) unit = t;
    return sigma * t;
  };
  auto score = [&](int64_t begin, int64_t end) { kernels().dot_range(codes_->view, code.batch(1), begin, end, estimates.data() + begin); };
  return Race{head, h, probes, most, estimates.data(), residual_.data()}.run(prepare, score, indices, values);
}

}  // namespace shortlist
