#include "sites/scorers.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/kernels.hpp"

namespace shortlist {

// ---- exact ----------------------------------------------------------------------------------------------------------

ExactProducts::ExactProducts(Matrix rows) : rows_(std::move(rows)), nothing_(static_cast<size_t>(rows_->view.rows), 0.0f) {
  if (rows_->view.tiled) throw std::invalid_argument("rows that are scored lie by row: pack them without tiles");
}

std::unique_ptr<Scores> ExactProducts::scores(const Query& queries, float* values, float*) const {
  class Call : public Scores {
   public:
    Call(const ExactProducts& of, const Query& queries, float* values) : Scores(values, of.rows()), of_(of), queries_(queries) {}
    void encode(Team&) override {}
    void fill(int64_t begin, int64_t end) override {
      kernels().gemm(of_.rows_->view, queries_.batch(), begin, end, values_ + begin, places_);
    }
    const float* margins(size_t) const override { return of_.nothing_.data(); }
    float scale(size_t) const override { return 0.0f; }

   private:
    const ExactProducts& of_;
    const Query& queries_;
  };
  return std::make_unique<Call>(*this, queries, values);
}

// ---- bit_planes -----------------------------------------------------------------------------------------------------

UpperPlanes::UpperPlanes(Matrix rows) : rows_(std::move(rows)) {
  const RowsView& m = rows_->view;
  if (m.format.bits != 8 || m.format.kind != Kind::Quantized || m.tiled)
    throw std::invalid_argument("bounds need 8-bit rows; these are " + m.format.name());
}

std::unique_ptr<Scores> UpperPlanes::scores(const Query& queries, float* values, float* margins) const {
  class Call : public Scores {
   public:
    Call(const RowsView& m, const Query& queries, float* values, float* margins)
        : Scores(values, m.rows), m_(m), queries_(queries), margins_(margins) {}
    void encode(Team&) override {}
    void fill(int64_t begin, int64_t end) override {
      kernels().dot_upper(m_, queries_.batch(), begin, end, values_ + begin, margins_ + begin, places_);
    }
    const float* margins(size_t q) const override { return margins_ + q * places_; }
    float scale(size_t) const override { return 1.0f; }

   private:
    const RowsView& m_;
    const Query& queries_;
    float* margins_;
  };
  return std::make_unique<Call>(rows_->view, queries, values, margins);
}

// ---- low_rank and mixed_width ---------------------------------------------------------------------------------------

LowRank::LowRank(Matrix projection, std::vector<std::shared_ptr<Codes>> groups, std::vector<float> residual, int rank,
    std::vector<int32_t> order)
    : projection_(std::move(projection)), groups_(std::move(groups)), order_(std::move(order)), rank_(rank) {
  int64_t places = 0;
  for (const auto& group : groups_) {
    if (!group) throw std::invalid_argument("a group has no codes");
    places += group->view.rows;
    padded_ = std::max(padded_, group->view.rank());
  }
  const RowsView& p = projection_->view;
  if (p.tiled || rank < 1 || rank > p.rows || p.rows > p.cols || padded_ < rank || padded_ - rank >= kGroup ||
      residual.size() != static_cast<size_t>(places) || (!order_.empty() && order_.size() != residual.size()))
    throw std::invalid_argument("projection, codes and residual do not fit together");
  if (!all_finite(residual.data(), places)) throw std::invalid_argument("the estimator holds values that are not numbers");
  if (order_.empty()) {
    margins_ = std::move(residual);
    return;
  }
  std::vector<char> seen(residual.size(), 0);
  for (int32_t row : order_)
    if (row < 0 || row >= places || seen[static_cast<size_t>(row)]++)
      throw std::invalid_argument("the order of the rows names each of them once");
  for (int32_t row : order_) margins_.push_back(residual[static_cast<size_t>(row)]);
}

size_t LowRank::bytes() const {
  size_t codes = 0;
  for (const auto& group : groups_) codes += group->bytes();
  return projection_->bytes() + codes + margins_.size() * sizeof(float) + order_.size() * sizeof(int32_t);
}

class LowRank::Call : public Scores {
 public:
  Call(const LowRank& of, const Query& queries, float* values)
      : Scores(values, of.rows()), of_(of), queries_(queries), all_(queries.count() * static_cast<size_t>(of.projection_->view.rows)),
          scales_(queries.count()), kept_(of.padded_) {
    kept_.reserve(static_cast<int>(queries.count()));
  }

  void encode(Team& team) override {
    const size_t directions = static_cast<size_t>(of_.projection_->view.rows), rank = static_cast<size_t>(of_.rank_);
    const auto share = team.share(static_cast<int64_t>(directions), 16);
    kernels().gemm(of_.projection_->view, queries_.batch(), share.begin, share.end, all_.data() + share.begin, directions);
    team.barrier();
    const auto mine = team.share(static_cast<int64_t>(scales_.size()));
    for (size_t q = static_cast<size_t>(mine.begin); q < static_cast<size_t>(mine.end); q++) {
      const float* all = &all_[q * directions];
      float* kept = kept_.x(static_cast<int>(q));
      std::copy_n(all, rank, kept);
      std::fill(kept + rank, kept + of_.padded_, 0.0f);
      kept_.quantize(static_cast<int>(q));
      double rest = 0.0;  // the norm per dimension of the coordinates that are cut off
      for (size_t i = rank; i < directions; i++) rest += static_cast<double>(all[i]) * static_cast<double>(all[i]);
      scales_[q] = directions > rank ? static_cast<float>(std::sqrt(rest / static_cast<double>(directions - rank))) : 1.0f;
    }
    team.barrier();
  }

  void fill(int64_t begin, int64_t end) override {
    int64_t first = 0;
    for (const auto& group : of_.groups_) {
      const int64_t from = std::max(begin, first), to = std::min(end, first + group->view.rows);
      if (from < to) kernels().dot_codes(group->view, kept_.batch(static_cast<int>(scales_.size())), from - first, to - first,
          values_ + from, places_);
      first += group->view.rows;
    }
  }

  const float* margins(size_t) const override { return of_.margins_.data(); }
  float scale(size_t q) const override { return scales_[q]; }

 private:
  const LowRank& of_;
  const Query& queries_;
  std::vector<float> all_, scales_;
  Activations kept_;  // the first `rank` coordinates
};

std::unique_ptr<Scores> LowRank::scores(const Query& queries, float* values, float*) const {
  return std::make_unique<Call>(*this, queries, values);
}

}  // namespace shortlist
