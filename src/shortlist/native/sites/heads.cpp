#include "sites/heads.hpp"

#include "kernels/kernels.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "kernels/kernels.hpp"
#include "sites/scorers.hpp"

namespace shortlist {

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
    for (size_t q = 0; q < h.count(); q++)
      check_finite(*rows_, logits + q * rows + static_cast<size_t>(share.begin), share.end - share.begin);
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

void Head::check(const Scorer& scorer) const {
  if (scorer.rows() != rows_->view.rows || scorer.width() != rows_->view.cols)
    throw std::invalid_argument("the estimator was fitted on another head");
}

// By row what lies by place.
static void to_rows(const Scorer& scorer, const float* from, float* to) {
  const int32_t* order = scorer.order();
  for (int64_t place = 0; place < scorer.rows(); place++) to[order ? order[place] : place] = from[place];
}

void Head::scores(const Scorer& scorer, const Query& h, float* values, float* reach) const {
  check(scorer);
  Workers::Scope scope(rows_->threads);
  std::vector<float> by_place(static_cast<size_t>(scorer.order() ? scorer.rows() : 0)), margins;
  const std::unique_ptr<Scores> scores = scorer.scores(h, by_place.empty() ? values : by_place.data(), reach);
  Pool::instance().run([&](Team& team) {
    scores->encode(team);
    const auto share = team.share(scorer.rows(), kTileRows * 2);
    scores->fill(share.begin, share.end);
    check_finite(*rows_, scores->values(0) + share.begin, share.end - share.begin);
  });
  if (!by_place.empty()) to_rows(scorer, by_place.data(), values);
  if (scores->margins(0) != reach) to_rows(scorer, scores->margins(0), reach);
  if (const float scale = scores->scale(0); scale != 1.0f)
    for (int64_t row = 0; row < scorer.rows(); row++) reach[row] *= scale;
}

std::vector<Winner> Head::argmax(const Scorer& scorer, const Query& h, const Policy& policy) {
  check(scorer);
  Workers::Scope scope(rows_->threads);
  const bool planes = rows_->view.secondary, sift = planes && !scorer.upper_planes();
  const size_t rows = static_cast<size_t>(rows_->view.rows);
  std::unique_ptr<Scores> scores;
  std::vector<Selection> selections;
  auto prepare = [&](int members) {  // here, as other threads may use the same room before and after
    values_.resize(std::max(values_.size(), h.count() * rows));
    if (scorer.upper_planes()) margins_.resize(values_.size());
    scores = scorer.scores(h, values_.data(), margins_.data());
    for (size_t q = 0; q < h.count(); q++)
      selections.emplace_back(*rows_, h.batch().token(static_cast<int>(q)), *scores, q, scorer, policy);
    for (Selection& selection : selections) selection.seat(members);
  };
  Pool::instance().run(prepare, [&](Team& team) {
    select(team, *scores, selections, *rows_, policy);
    for (Selection& selection : selections)
      if (!selection.too_long()) selection.finish(team, sift);
  });
  std::vector<Winner> winners;
  std::vector<size_t> others;
  for (const Selection& selection : selections) {
    if (selection.too_long()) others.push_back(winners.size());
    winners.push_back(selection.winner());
  }
  if (others.empty()) return winners;
  const int width = rows_->view.cols;
  std::vector<float> hidden;
  for (size_t q : others)
    hidden.insert(hidden.end(), h.batch().token(static_cast<int>(q)).x, h.batch().token(static_cast<int>(q)).x + width);
  const Query rest(hidden.data(), static_cast<int>(others.size()), width);
  std::vector<Winner> of_all = planes ? argmax(UpperPlanes(rows_), rest, Policy()) : dense_argmax(rest);
  for (size_t i = 0; i < others.size(); i++) {
    winners[others[i]] = of_all[i];
    if (planes) winners[others[i]].upper = rows_->view.rows;
  }
  return winners;
}

void Head::list(const Scorer& scorer, const Query& h, const Policy& policy, Listed& to) const {
  check(scorer);
  Workers::Scope scope(rows_->threads);
  const size_t rows = static_cast<size_t>(rows_->view.rows);
  to.values.resize(rows);
  to.own_margins.resize(rows);
  const std::unique_ptr<Scores> scores = scorer.scores(h, to.values.data(), to.own_margins.data());
  std::vector<Selection> selections{Selection(*rows_, h.batch(), *scores, 0, scorer, policy)};
  Pool::instance().run([&](int members) { selections[0].seat(members); }, [&](Team& team) {
    select(team, *scores, selections, *rows_, policy);
  });
  if (selections[0].too_long()) {
    to.rows.resize(rows);
    std::iota(to.rows.begin(), to.rows.end(), 0);
  } else {
    to.rows = selections[0].shortlist();
  }
  to.estimates = scores->values(0);
  to.margins = scores->margins(0);
  if (!scorer.order()) return;
  for (auto [by_row, from] : {std::pair{&to.by_row[0], &to.estimates}, std::pair{&to.by_row[1], &to.margins}}) {
    by_row->resize(rows);
    to_rows(scorer, *from, by_row->data());
    *from = by_row->data();
  }
}

std::vector<int32_t> Head::shortlist(const Scorer& scorer, const Query& h, const Policy& policy) const {
  static thread_local Listed listed;
  list(scorer, h, policy, listed);
  return listed.rows;
}

}  // namespace shortlist
