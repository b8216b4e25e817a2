#include "sites/heads.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <stdexcept>

namespace shortlist {

namespace {

// A logit that is not a number cannot be compared: it would lose in silence.
void check_finite(const Rows& rows, const float* logits, int64_t count) {
  if (!all_finite(logits, count))
    throw NotFinite((rows.source.empty() ? "the head" : rows.source) + ": the head computes logits that are not finite numbers, so the file is damaged: " +
                    "fetch it again, or convert it again");
}

// selectors/confidence.py and selectors/certified.py for one query, in steps of a job of the pool that every member takes. The
// rows are cut into `probes` blocks; the best row by score of each block is read; the best exact value is the mark; rows whose
// score + scale * margin reaches it are read too. Blocks do not depend on the number of threads, so neither do the rows that are read.
class Race {
 public:
  Race(const Head& head, const Batch& x, const float* scores, const float* margins)
      : m_(head.rows().view), x_(x), scores_(scores), margins_(margins), rows_(head.rows()) {}

  // Before the job.
  void seat(int members) { runners_.resize(static_cast<size_t>(members)); }

  // A block, whose scores are there.
  void probe(const Team& team, int64_t begin, int64_t end) {
    float value;
    int64_t where;
    kernels().argmax(scores_ + begin, end - begin, &value, &where);
    runners_[static_cast<size_t>(team.id)].first.push_back(static_cast<int32_t>(begin + where));
  }

  // Reads the best rows of this member's blocks.
  void read_probes(const Team& team) {
    Runner& mine = runners_[static_cast<size_t>(team.id)];
    read(mine.first.data(), static_cast<int64_t>(mine.first.size()), mine);
    mine.mark = mine.best.value;
  }

  // Once all have: the rows of [begin, end) that reach the mark.
  void gather(const Team& team, float scale, int64_t begin, int64_t end) {
    Runner& mine = runners_[static_cast<size_t>(team.id)];
    // Kept between queries: fresh memory for every row would cost a page fault per thousand of them.
    static thread_local std::vector<int32_t> room;
    room.resize(std::max(room.size(), static_cast<size_t>(end - begin)));
    const int64_t count = kernels().reaching(scores_ + begin, margins_ + begin, scale, end - begin, mark(), static_cast<int32_t>(begin), room.data());
    mine.reached.assign(room.begin(), room.begin() + count);
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
    check_finite(rows_, values.data(), count);
    for (size_t i = 0; i < values.size(); i++) beat(mine.best, rows[i], values[i]);
    mine.best.rows += count;
  }

  const RowsView& m_;
  const Batch x_;
  const float *scores_, *margins_;
  const Rows& rows_;
  std::vector<Runner> runners_;
};

// By every member: the first steps of several races over the same rows. score(begin, end) fills the scores of a block for all of
// them; scale(q) is what times the margins of query q. Ends with a barrier.
template <class Score, class Scale>
void start(Team& team, std::vector<Race>& races, int64_t rows, int probes, Score score, Scale scale) {
  const int64_t block = (rows + probes - 1) / probes;
  const auto share = team.share(rows, block);
  for (int64_t at = share.begin; at < share.end; at += block) {
    const int64_t end = std::min(at + block, share.end);
    score(at, end);
    for (Race& race : races) race.probe(team, at, end);
  }
  for (Race& race : races) race.read_probes(team);
  team.barrier();
  for (size_t q = 0; q < races.size(); q++) races[q].gather(team, scale(q), share.begin, share.end);
  team.barrier();
}

// The queries whose list is longer than `most`.
std::vector<size_t> too_long(const std::vector<Race>& races, int64_t most) {
  std::vector<size_t> queries;
  for (size_t q = 0; q < races.size(); q++)
    if (races[q].reached() > most) queries.push_back(q);
  return queries;
}

}  // namespace

Head::Head(Matrix rows) : rows_(std::move(rows)) {
  if (rows_->view.tiled) throw std::invalid_argument("a head is read by row: pack it without tiles");
  rows_->check_finite();
}

void Head::dense(const Query& h, float* logits) const {
  Workers::Scope scope(rows_->threads);
  const size_t rows = static_cast<size_t>(rows_->view.rows);
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(rows_->view.rows, 16);
    kernels().gemm(rows_->view, h.batch(), share.begin, share.end, logits + share.begin, rows);
    for (size_t q = 0; q < h.count(); q++) check_finite(*rows_, logits + q * rows + static_cast<size_t>(share.begin), share.end - share.begin);
  });
}

std::vector<Winner> Head::dense_argmax(const Query& h) const {
  Workers::Scope scope(rows_->threads);
  constexpr int64_t block = 512;  // rows whose values stay in the cache until they are compared
  const RowsView& m = rows_->view;
  std::vector<std::vector<Winner>> best;  // per member
  auto prepare = [&](int members) { best.assign(static_cast<size_t>(members), std::vector<Winner>(h.count())); };
  Pool::instance().run(prepare, [&](Team& team) {
    std::vector<Winner>& mine = best[static_cast<size_t>(team.id)];
    std::vector<float> values(h.count() * block);
    const auto share = team.share(m.rows, 16);
    for (int64_t at = share.begin; at < share.end; at += block) {
      const int64_t end = std::min(at + block, share.end);
      kernels().gemm(m, h.batch(), at, end, values.data(), block);
      for (size_t q = 0; q < mine.size(); q++) {
        check_finite(*rows_, values.data() + q * block, end - at);
        float value;
        int64_t where;
        kernels().argmax(values.data() + q * block, end - at, &value, &where);
        if (value > mine[q].value) mine[q].value = value, mine[q].token = at + where;
      }
    }
  });
  std::vector<Winner> winners(h.count());
  for (size_t q = 0; q < winners.size(); q++) {
    for (const auto& member : best)  // in the order of their rows, so that the lowest of equals stays
      if (member[q].value > winners[q].value) winners[q] = member[q];
    winners[q].rows = m.rows;
  }
  return winners;
}

void Head::exact_rows(const Query& h, const int32_t* indices, int64_t count, float* values) const {
  Workers::Scope scope(rows_->threads);
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(count, 16);
    kernels().dot_list(rows_->view, h.batch(), indices + share.begin, share.end - share.begin, values + share.begin);
    check_finite(*rows_, values + share.begin, share.end - share.begin);
  });
}

void Head::bounds(const Query& h, float* middle, float* radius) const {
  Workers::Scope scope(rows_->threads);
  if (rows_->view.format.bits != 8 || rows_->view.format.kind != Kind::Quantized)
    throw std::invalid_argument("bounds need 8-bit rows; these are " + rows_->view.format.name());
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(rows_->view.rows, 16);
    kernels().dot_upper(rows_->view, h.batch(), share.begin, share.end, middle + share.begin, radius + share.begin, 0);
    check_finite(*rows_, middle + share.begin, share.end - share.begin);
  });
}

std::vector<Winner> Head::certified_argmax(const Query& h) {
  Workers::Scope scope(rows_->threads);
  const RowsView& m = rows_->view;
  if (m.format.bits != 8 || m.format.kind != Kind::Quantized)
    throw std::invalid_argument("the certified head needs 8-bit rows; these are " + m.format.name());
  const size_t rows = static_cast<size_t>(m.rows);
  std::vector<Race> races;
  auto prepare = [&](int members) {  // here, as other threads may use the same room before and after
    middle_.resize(std::max(middle_.size(), h.count() * rows));
    radius_.resize(middle_.size());
    for (size_t q = 0; q < h.count(); q++) races.emplace_back(*this, h.batch().token(static_cast<int>(q)), &middle_[q * rows], &radius_[q * rows]);
    for (Race& race : races) race.seat(members);
  };
  Pool::instance().run(prepare, [&](Team& team) {
    auto score = [&](int64_t begin, int64_t end) {
      kernels().dot_upper(m, h.batch(), begin, end, &middle_[static_cast<size_t>(begin)], &radius_[static_cast<size_t>(begin)], rows);
      for (size_t q = 0; q < races.size(); q++) check_finite(*rows_, &middle_[q * rows + static_cast<size_t>(begin)], end - begin);
    };
    start(team, races, m.rows, kProbes, score, [](size_t) { return 1.0f; });
    for (Race& race : races) race.finish(team, false);
  });
  std::vector<Winner> winners;
  for (const Race& race : races) {
    winners.push_back(race.winner());
    winners.back().upper = m.rows;
  }
  return winners;
}

LowRank::LowRank(Matrix projection, std::shared_ptr<Codes> codes, std::vector<float> residual)
    : projection_(std::move(projection)), codes_(std::move(codes)), residual_(std::move(residual)) {
  if (projection_->view.rows != projection_->view.cols || codes_->view.rank() > projection_->view.rows ||
      residual_.size() != static_cast<size_t>(codes_->view.rows))
    throw std::invalid_argument("projection, codes and residual do not fit together");
  if (!all_finite(residual_.data(), static_cast<int64_t>(residual_.size()))) throw std::invalid_argument("the estimator holds values that are not numbers");
}

void LowRank::encode(Team& team, const Query& h, Coordinates& to) const {
  const size_t width = static_cast<size_t>(projection_->view.rows), rank = static_cast<size_t>(codes_->view.rank());
  const auto share = team.share(static_cast<int64_t>(width), 16);
  kernels().gemm(projection_->view, h.batch(), share.begin, share.end, to.all.data() + share.begin, width);
  team.barrier();
  const auto mine = team.share(static_cast<int64_t>(h.count()));
  for (size_t q = static_cast<size_t>(mine.begin); q < static_cast<size_t>(mine.end); q++) {
    const float* all = &to.all[q * width];
    std::copy_n(all, rank, to.kept.x(static_cast<int>(q)));
    to.kept.quantize(static_cast<int>(q));
    double rest = 0.0;
    for (size_t i = rank; i < width; i++) rest += static_cast<double>(all[i]) * static_cast<double>(all[i]);
    to.cut_off[q] = width > rank ? static_cast<float>(std::sqrt(rest / static_cast<double>(width - rank))) : 0.0f;
  }
  team.barrier();
}

void LowRank::score(const Coordinates& of, int64_t begin, int64_t end, float* values, size_t stride) const {
  kernels().dot_codes(codes_->view, of.batch(), begin, end, values + begin, stride);
}

std::vector<int32_t> LowRank::all_rows() const {
  std::vector<int32_t> rows(residual_.size());
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

void LowRank::estimate(const Query& h, const Head& head, float* values, float* spread) const {
  check_head(head);
  Workers::Scope scope(head.rows().threads);
  Coordinates coordinates(*this, h);
  Pool::instance().run([&](Team& team) {
    encode(team, h, coordinates);
    const auto share = team.share(codes_->view.rows, kTileRows);
    score(coordinates, share.begin, share.end, values, 0);
    check_finite(head.rows(), values + share.begin, share.end - share.begin);
    for (int64_t r = share.begin; r < share.end; r++) spread[r] = residual_[static_cast<size_t>(r)] * coordinates.cut_off[0];
  });
}

void LowRank::check_head(const Head& head) const {
  if (head.rows().view.rows != codes_->view.rows || head.rows().view.cols != projection_->view.cols) throw std::invalid_argument("the estimator was fitted on another head");
}

void LowRank::shortlist(const Query& h, const Head& head, float sigma, int64_t most, int probes, std::vector<int32_t>& indices, std::vector<float>& values,
                        std::vector<float>& estimates, float& unit) const {
  check_head(head);
  Workers::Scope scope(head.rows().threads);
  estimates.resize(residual_.size());
  Coordinates coordinates(*this, h);
  std::vector<Race> races{Race(head, h.batch(), estimates.data(), residual_.data())};
  Pool::instance().run([&](int members) { races[0].seat(members); }, [&](Team& team) {
    encode(team, h, coordinates);
    auto score_block = [&](int64_t begin, int64_t end) {
      score(coordinates, begin, end, estimates.data(), 0);
      check_finite(head.rows(), estimates.data() + begin, end - begin);
    };
    start(team, races, codes_->view.rows, probes, score_block, [&](size_t q) { return sigma * coordinates.cut_off[q]; });
    if (team.id == 0) {
      unit = coordinates.cut_off[0];
      indices = races[0].reached() > most ? all_rows() : races[0].shortlist();
      values.resize(indices.size());
    }
    team.barrier();
    const auto mine = team.share(static_cast<int64_t>(indices.size()), 16);
    if (indices.size() == residual_.size())
      kernels().dot_range(head.rows().view, h.batch(), mine.begin, mine.end, values.data() + mine.begin);
    else
      kernels().dot_list(head.rows().view, h.batch(), indices.data() + mine.begin, mine.end - mine.begin, values.data() + mine.begin);
    check_finite(head.rows(), values.data() + mine.begin, mine.end - mine.begin);
  });
}

std::vector<Winner> LowRank::argmax(const Query& h, Head& head, float sigma, int64_t most, int probes) {
  check_head(head);
  Workers::Scope scope(head.rows().threads);
  const bool planes = head.rows().view.secondary;
  const size_t rows = residual_.size();
  Coordinates coordinates(*this, h);
  std::vector<Race> races;
  auto prepare = [&](int members) {  // as in certified_argmax
    estimates_.resize(std::max(estimates_.size(), h.count() * rows));
    for (size_t q = 0; q < h.count(); q++) races.emplace_back(head, h.batch().token(static_cast<int>(q)), &estimates_[q * rows], residual_.data());
    for (Race& race : races) race.seat(members);
  };
  Pool::instance().run(prepare, [&](Team& team) {
    encode(team, h, coordinates);
    auto score_block = [&](int64_t begin, int64_t end) {
      score(coordinates, begin, end, estimates_.data(), rows);
      for (size_t q = 0; q < h.count(); q++) check_finite(head.rows(), &estimates_[q * rows + static_cast<size_t>(begin)], end - begin);
    };
    start(team, races, codes_->view.rows, probes, score_block, [&](size_t q) { return sigma * coordinates.cut_off[q]; });
    for (Race& race : races)
      if (race.reached() <= most) race.finish(team, planes);
  });
  std::vector<Winner> winners;
  for (const Race& race : races) winners.push_back(race.winner());
  const std::vector<size_t> others = too_long(races, most);
  if (others.empty()) return winners;
  const int width = head.rows().view.cols;
  std::vector<float> hidden;
  for (size_t q : others) hidden.insert(hidden.end(), h.batch().token(static_cast<int>(q)).x, h.batch().token(static_cast<int>(q)).x + width);
  const Query rest(hidden.data(), static_cast<int>(others.size()), width);
  const std::vector<Winner> of_all = planes ? head.certified_argmax(rest) : head.dense_argmax(rest);
  for (size_t i = 0; i < others.size(); i++) winners[others[i]] = of_all[i];
  return winners;
}

}  // namespace shortlist
