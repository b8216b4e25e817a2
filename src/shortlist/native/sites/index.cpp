#include "sites/index.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/kernels.hpp"
#include "pool/threads.hpp"
#include "sites/select.hpp"

namespace shortlist {

namespace {

constexpr int64_t kBlockRows = 2048;  // of a low-rank copy, in the cache of one core

float number(float value) { return std::isnan(value) ? -INFINITY : value; }  // so that the order is total

// Larger values first, then lower rows.
struct Before {
  const float* values;
  bool operator()(int64_t a, int64_t b) const {
    const float x = number(values[a]), y = number(values[b]);
    return x != y ? x > y : a < b;
  }
};

}  // namespace

void estimate_each(const Rows& rows, const Batch& queries, float* out) {
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(rows.view.rows, 16);
    for (int64_t begin = share.begin; begin < share.end; begin += kBlockRows) {
      const int64_t end = std::min(begin + kBlockRows, share.end);
      for (int q = 0; q < queries.tokens; q++)
        kernels().dot_range(rows.view, queries.token(q), begin, end, out + q * rows.view.rows + begin);
    }
  });
}

void shortlist_each(const float* values, int64_t queries, int64_t rows, int64_t count, int32_t* out) {
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(queries);
    std::vector<float> sample;
    std::vector<int32_t> possible;
    for (int64_t q = share.begin; q < share.end; q++) best_places(values + q * rows, rows, count, sample, possible, out + q * count);
  });
}

void compute_each(const std::vector<Matrix>& parts, const Batch& queries, const int32_t* shortlists, int64_t count, int64_t best,
    int64_t* ids, float* scores) {
  std::vector<float> exact(static_cast<size_t>(queries.tokens * count));
  Pool::instance().run([&](Team& team) {
    // All queries' candidates in one line, cut into equal shares: one query alone keeps every thread busy too.
    const auto share = team.share(queries.tokens * count, 16);
    std::vector<int32_t> local(static_cast<size_t>(count));
    for (int64_t at = share.begin; at < share.end;) {
      const int64_t q = at / count, stop = std::min(share.end, (q + 1) * count);
      int64_t first = 0;
      for (const Matrix& part : parts) {
        const int64_t past = std::lower_bound(shortlists + at, shortlists + stop, first + part->view.rows) - shortlists;
        for (int64_t i = at; i < past; i++) local[static_cast<size_t>(i - at)] = static_cast<int32_t>(shortlists[i] - first);
        kernels().dot_list(part->view, queries.token(static_cast<int>(q)), local.data(), past - at, exact.data() + at);
        at = past;
        first += part->view.rows;
      }
    }
    team.barrier();
    const auto mine = team.share(queries.tokens);
    std::vector<int32_t> order(static_cast<size_t>(count));
    for (int64_t q = mine.begin; q < mine.end; q++) {
      const float* values = exact.data() + q * count;
      std::iota(order.begin(), order.end(), 0);
      std::partial_sort(order.begin(), order.begin() + best, order.end(), Before{values});
      for (int64_t i = 0; i < best; i++) {
        ids[q * best + i] = shortlists[q * count + order[static_cast<size_t>(i)]];
        scores[q * best + i] = values[order[static_cast<size_t>(i)]];
      }
    }
  });
}

}  // namespace shortlist
