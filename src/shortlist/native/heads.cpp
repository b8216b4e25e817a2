#include "heads.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace shortlist {

namespace {

// Keeps the larger value, and on a tie the lower row, so that the winner does not depend on who looked first.
void keep_best(Winner& best, int64_t token, float value, bool& any) {
  if (!any || value > best.value || (value == best.value && token < best.token)) {
    best.token = token;
    best.value = value;
  }
  any = true;
}

// Two phases, one job. score(begin, end) scores a share of the rows and returns its most promising one, whose exact value
// is a mark to beat; then the rows whose score + scale * margin reaches the best mark are computed exactly.
struct Race {
  const Head& head;
  const Query& h;
  const float *scores, *margins;
  float scale;

  template <class Score>
  Winner run(Score score, std::vector<int32_t>* indices, std::vector<float>* values) const {
    const size_t members = static_cast<size_t>(Pool::instance().threads());
    std::vector<float> first(members, -INFINITY);
    std::vector<std::vector<int32_t>> lists(members);
    std::vector<std::vector<float>> exact(members);
    const RowsView& m = head.rows().view;
    Pool::instance().run([&](Team& team) {
      const size_t id = static_cast<size_t>(team.id);
      const auto share = team.share(m.rows, 64);
      if (share.end > share.begin) {
        const int32_t promising = static_cast<int32_t>(score(share.begin, share.end));
        kernels().dot_list(m, h.batch(), &promising, 1, &first[id]);
      }
      team.barrier();
      float best = -INFINITY;
      for (float f : first) best = std::max(best, f);
      lists[id].resize(static_cast<size_t>(share.end - share.begin));
      lists[id].resize(static_cast<size_t>(kernels().reaching(scores + share.begin, margins + share.begin, scale, share.end - share.begin, best,
                                                              static_cast<int32_t>(share.begin), lists[id].data())));
      exact[id].resize(lists[id].size());
      kernels().dot_list(m, h.batch(), lists[id].data(), static_cast<int64_t>(lists[id].size()), exact[id].data());
    });
    Winner winner;
    bool any = false;
    for (size_t id = 0; id < members; id++) {
      for (size_t i = 0; i < lists[id].size(); i++) keep_best(winner, lists[id][i], exact[id][i], any);
      winner.rows += static_cast<int64_t>(lists[id].size());
      if (indices) indices->insert(indices->end(), lists[id].begin(), lists[id].end());
      if (values) values->insert(values->end(), exact[id].begin(), exact[id].end());
    }
    return winner;
  }
};

}  // namespace

Query::Query(const float* hidden, int width) : activations_(width) {
  activations_.reserve(1);
  std::copy_n(hidden, width, activations_.x(0));
  Barrier none;
  Team alone(0, 1, none);
  activations_.quantize(alone, 1);
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
  auto score = [&](int64_t begin, int64_t end) {
    kernels().dot_upper(m, h.batch(), begin, end, middle_.data() + begin, radius_.data() + begin);
    float value;
    int64_t where;
    kernels().argmax(middle_.data() + begin, end - begin, &value, &where);
    return begin + where;
  };
  return Race{*this, h, middle_.data(), radius_.data(), 1.0f}.run(score, nullptr, nullptr);
}

LowRank::LowRank(Matrix projection, Matrix codes, std::vector<float> residual)
    : projection_(std::move(projection)), codes_(std::move(codes)), residual_(std::move(residual)) {
  if (projection_->view.rows != projection_->view.cols || codes_->view.cols > projection_->view.rows ||
      residual_.size() != static_cast<size_t>(codes_->view.rows))
    throw std::invalid_argument("projection, codes and residual do not fit together");
}

float LowRank::encode(const Query& h, Activations& code) const {
  const int width = static_cast<int>(projection_->view.rows), rank = codes_->view.cols;
  std::vector<float> rotated(static_cast<size_t>(width));
  kernels().dot_range(projection_->view, h.batch(), 0, width, rotated.data());
  code.reserve(1);
  std::copy_n(rotated.data(), rank, code.x(0));
  Barrier none;
  Team alone(0, 1, none);
  code.quantize(alone, 1);
  double rest = 0.0;
  for (int i = rank; i < width; i++) rest += static_cast<double>(rotated[static_cast<size_t>(i)]) * static_cast<double>(rotated[static_cast<size_t>(i)]);
  return width > rank ? static_cast<float>(std::sqrt(rest / (width - rank))) : 0.0f;
}

void LowRank::estimate(const Query& h, float* values, float* spread) const {
  Activations code(codes_->view.cols);
  const float t = encode(h, code);
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(codes_->view.rows, 16);
    kernels().dot_range(codes_->view, code.batch(1), share.begin, share.end, values + share.begin);
    for (int64_t r = share.begin; r < share.end; r++) spread[r] = residual_[static_cast<size_t>(r)] * t;
  });
}

Winner LowRank::shortlist(const Query& h, const Head& head, float sigma, std::vector<int32_t>& indices, std::vector<float>& values,
                          std::vector<float>& estimates) const {
  if (head.rows().view.rows != codes_->view.rows) throw std::invalid_argument("the estimator was fitted on another head");
  indices.clear();
  values.clear();
  estimates.resize(residual_.size());
  Activations code(codes_->view.cols);
  const float reach = sigma * encode(h, code);
  auto score = [&](int64_t begin, int64_t end) {
    kernels().dot_range(codes_->view, code.batch(1), begin, end, estimates.data() + begin);
    float value;
    int64_t where;
    kernels().argmax(estimates.data() + begin, end - begin, &value, &where);
    return begin + where;
  };
  return Race{head, h, estimates.data(), residual_.data(), reach}.run(score, &indices, &values);
}

}  // namespace shortlist
