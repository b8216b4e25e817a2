#include "heads.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <stdexcept>

namespace shortlist {

namespace {

// selectors/confidence.py and selectors/certified.py as one job of the pool. The rows are cut into `probes` blocks; score()
// scores a block, whose best row is read; the best exact value is the mark; rows whose score + scale * margin reaches it
// are read too. Blocks do not depend on the number of threads, so neither do the rows that are read.
class Race {
 public:
  Race(const Head& head, const Query& h, int probes, const float* scores, const float* margins)
      : m_(head.rows().view), x_(h.batch()), probes_(probes), scores_(scores), margins_(margins), runners_(static_cast<size_t>(Pool::instance().threads())) {}

  // By every member: the probes, and the rows that reach their best value, each member those of its share. `scale` is what
  // times the margins; score(begin, end) fills the scores of a block. Ends with a barrier.
  template <class Score>
  void start(Team& team, float scale, Score score) {
    Runner& mine = runners_[static_cast<size_t>(team.id)];
    const int64_t block = (m_.rows + probes_ - 1) / probes_;
    const auto share = team.share(m_.rows, block);
    for (int64_t at = share.begin; at < share.end; at += block) {
      const int64_t end = std::min(at + block, share.end);
      score(at, end);
      float value;
      int64_t where;
      kernels().argmax(scores_ + at, end - at, &value, &where);
      mine.first.push_back(static_cast<int32_t>(at + where));
    }
    read(mine.first.data(), static_cast<int64_t>(mine.first.size()), mine);
    mine.mark = mine.best.value;
    team.barrier();
    // Kept between queries: fresh memory for every row would cost a page fault per thousand of them.
    static thread_local std::vector<int32_t> room;
    room.resize(std::max(room.size(), static_cast<size_t>(share.end - share.begin)));
    const int64_t count = kernels().reaching(scores_ + share.begin, margins_ + share.begin, scale, share.end - share.begin, mark(),
                                             static_cast<int32_t>(share.begin), room.data());
    mine.reached.assign(room.begin(), room.begin() + count);
    team.barrier();
  }

  int64_t reached() const {
    int64_t count = 0;
    for (const Runner& runner : runners_) count += static_cast<int64_t>(runner.reached.size());
    return count;
  }

  // The probes and the rows that reached the mark, ascending.
  std::vector<int32_t> shortlist() const {
    std::vector<int32_t> all;
    for (const Runner& runner : runners_)
      std::set_union(runner.first.begin(), runner.first.end(), runner.reached.begin(), runner.reached.end(), std::back_inserter(all));
    return all;
  }

  // By every member: reads its part of the rows that reached the mark. Where it is to `sift` them, it reads their upper planes
  // first, and then only those whose bound reaches the mark too.
  void finish(Team& team, bool sift) {
    Runner& mine = runners_[static_cast<size_t>(team.id)];
    std::vector<int32_t> rows = part_of_reached(team);
    if (sift) {
      std::vector<float> middle(rows.size()), radius(rows.size());
      kernels().dot_upper_list(m_, x_, rows.data(), static_cast<int64_t>(rows.size()), middle.data(), radius.data());
      mine.best.upper += static_cast<int64_t>(rows.size());
      const float to_reach = mark();
      size_t kept = 0;
      for (size_t i = 0; i < rows.size(); i++)
        if (!(middle[i] + radius[i] < to_reach)) rows[kept++] = rows[i];
      rows.resize(kept);
    }
    read(rows.data(), static_cast<int64_t>(rows.size()), mine);
  }

  // The largest value that was read and, on a tie, the lowest row, as an argmax over all rows would give.
  Winner winner() const {
    Winner all;
    for (const Runner& runner : runners_) {
      beat(all, runner.best.token, runner.best.value);
      all.rows += runner.best.rows;
      all.upper += runner.best.upper;
    }
    return all;
  }

 private:
  struct Runner {  // of one member
    std::vector<int32_t> first, reached;
    float mark = -INFINITY;
    Winner best;
  };

  static void beat(Winner& best, int64_t token, float value) {
    if (value > best.value || (value == best.value && token < best.token)) best.token = token, best.value = value;
  }

  float mark() const {
    float mark = -INFINITY;
    for (const Runner& runner : runners_) mark = std::max(mark, runner.mark);
    return mark;
  }

  // This member's part of the rows that reached the mark, without the probes, which are read already.
  std::vector<int32_t> part_of_reached(const Team& team) const {
    const auto share = team.share(reached(), 8);
    std::vector<int32_t> rows;
    int64_t at = 0;
    for (const Runner& runner : runners_) {
      const int64_t begin = std::clamp(share.begin - at, int64_t{0}, static_cast<int64_t>(runner.reached.size()));
      const int64_t end = std::clamp(share.end - at, int64_t{0}, static_cast<int64_t>(runner.reached.size()));
      std::set_difference(runner.reached.begin() + begin, runner.reached.begin() + end, runner.first.begin(), runner.first.end(), std::back_inserter(rows));
      at += static_cast<int64_t>(runner.reached.size());
    }
    return rows;
  }

  void read(const int32_t* rows, int64_t count, Runner& mine) const {
    std::vector<float> values(static_cast<size_t>(count));
    kernels().dot_list(m_, x_, rows, count, values.data());
    for (size_t i = 0; i < values.size(); i++) beat(mine.best, rows[i], values[i]);
    mine.best.rows += count;
  }

  const RowsView& m_;
  const Batch x_;
  const int probes_;
  const float *scores_, *margins_;
  std::vector<Runner> runners_;
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
  Race race(*this, h, kProbes, middle_.data(), radius_.data());
  Pool::instance().run([&](Team& team) {
    race.start(team, 1.0f, [&](int64_t begin, int64_t end) { kernels().dot_upper(m, h.batch(), begin, end, middle_.data() + begin, radius_.data() + begin); });
    race.finish(team, false);
  });
  Winner winner = race.winner();
  winner.upper = m.rows;
  return winner;
}

LowRank::LowRank(Matrix projection, std::shared_ptr<Codes> codes, std::vector<float> residual)
    : projection_(std::move(projection)), codes_(std::move(codes)), residual_(std::move(residual)), estimates_(residual_.size()) {
  if (projection_->view.rows != projection_->view.cols || codes_->view.rank() > projection_->view.rows ||
      residual_.size() != static_cast<size_t>(codes_->view.rows))
    throw std::invalid_argument("projection, codes and residual do not fit together");
}

float LowRank::encode(Team& team, const Query& h, Coordinates& to) const {
  const int width = static_cast<int>(projection_->view.rows), rank = codes_->view.rank();
  const auto share = team.share(width, 16);
  kernels().dot_range(projection_->view, h.batch(), share.begin, share.end, to.all.data() + share.begin);
  team.barrier();
  if (team.id == 0) {
    std::copy_n(to.all.data(), rank, to.kept.x(0));
    to.kept.quantize(0);
  }
  double rest = 0.0;
  for (int i = rank; i < width; i++) rest += static_cast<double>(to.all[static_cast<size_t>(i)]) * static_cast<double>(to.all[static_cast<size_t>(i)]);
  team.barrier();
  return width > rank ? static_cast<float>(std::sqrt(rest / (width - rank))) : 0.0f;
}

void LowRank::score(const Coordinates& of, int64_t begin, int64_t end, float* values) const {
  kernels().dot_codes(codes_->view, of.kept.batch(1), begin, end, values, 0);
}

std::vector<int32_t> LowRank::all_rows() const {
  std::vector<int32_t> rows(residual_.size());
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

void LowRank::estimate(const Query& h, float* values, float* spread) const {
  Coordinates coordinates(*this);
  Pool::instance().run([&](Team& team) {
    const float t = encode(team, h, coordinates);
    const auto share = team.share(codes_->view.rows, kTileRows);
    score(coordinates, share.begin, share.end, values + share.begin);
    for (int64_t r = share.begin; r < share.end; r++) spread[r] = residual_[static_cast<size_t>(r)] * t;
  });
}

void LowRank::check_head(const Head& head) const {
  if (head.rows().view.rows != codes_->view.rows) throw std::invalid_argument("the estimator was fitted on another head");
}

void LowRank::shortlist(const Query& h, const Head& head, float sigma, int64_t most, int probes, std::vector<int32_t>& indices, std::vector<float>& values,
                        std::vector<float>& estimates, float& unit) const {
  check_head(head);
  estimates.resize(residual_.size());
  Coordinates coordinates(*this);
  Race race(head, h, probes, estimates.data(), residual_.data());
  Pool::instance().run([&](Team& team) {
    const float t = encode(team, h, coordinates);
    race.start(team, sigma * t, [&](int64_t begin, int64_t end) { score(coordinates, begin, end, estimates.data() + begin); });
    if (team.id == 0) {
      unit = t;
      indices = race.reached() > most ? all_rows() : race.shortlist();
      values.resize(indices.size());
    }
    team.barrier();
    const auto mine = team.share(static_cast<int64_t>(indices.size()), 16);
    if (indices.size() == residual_.size())
      kernels().dot_range(head.rows().view, h.batch(), mine.begin, mine.end, values.data() + mine.begin);
    else
      kernels().dot_list(head.rows().view, h.batch(), indices.data() + mine.begin, mine.end - mine.begin, values.data() + mine.begin);
  });
}

Winner LowRank::argmax(const Query& h, Head& head, float sigma, int64_t most, int probes) {
  check_head(head);
  const bool planes = head.rows().view.secondary;
  Coordinates coordinates(*this);
  Race race(head, h, probes, estimates_.data(), residual_.data());
  Pool::instance().run([&](Team& team) {
    const float t = encode(team, h, coordinates);
    race.start(team, sigma * t, [&](int64_t begin, int64_t end) { score(coordinates, begin, end, estimates_.data() + begin); });
    if (race.reached() <= most) race.finish(team, planes);
  });
  if (race.reached() <= most) return race.winner();
  return planes ? head.certified_argmax(h) : head.dense_argmax(h);
}

}  // namespace shortlist
