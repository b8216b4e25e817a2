#include "torch/grouped.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

#include "kernels/kernels.hpp"
#include "pool/threads.hpp"

namespace shortlist {

namespace {

constexpr int kOutputs = 8 * kFloatTile;  // outputs of a thread at a time
constexpr int64_t kAhead = 12;         // rows are prefetched this many steps ahead
constexpr int kWidest = 32;            // largest number of columns of a panel
constexpr int64_t kDepth = 256;        // columns of a block, which fit the first-level cache
constexpr int64_t kMost = 512;         // rows of a group in one pass: with more, reading its matrix again costs nothing
constexpr int64_t kPanels = 1 << 19;   // floats of panels that are packed together

// Consecutive rows of one group, as columns in panels [depth, lanes * vectors].
struct Piece {
  int64_t group, first, count;
  bool starts;  // first piece of its group
  int vectors;  // registers of a panel's row; 0: rows are not packed
  int64_t at = 0;  // offset of its first panel

  int64_t width() const { return vectors ? vectors * kernels().lanes : kFew; }
  int64_t panels(int64_t columns) const { return (columns + width() - 1) / width(); }
};

std::vector<Piece> pieces_of(const std::vector<int64_t>& load) {
  std::vector<Piece> pieces;
  int64_t first = 0;
  for (size_t g = 0; g < load.size(); g++)
    for (int64_t end = first + load[g], begin = first; first < end; first = std::min(first + kMost, end))
      pieces.push_back({static_cast<int64_t>(g), first, std::min(kMost, end - first), first == begin, 2});
  return pieces;
}

// Runs pack(team, piece, panels) and then work(block, piece, panels) for every piece and every block of `outputs`. One thread
// computes a block for all pieces that are packed together, so these may add to the same outputs.
template <class Size, class Pack, class Work>
void each_block(std::vector<Piece> pieces, int64_t outputs, Size size, Pack pack, Work work) {
  std::vector<size_t> ends;  // end of each range of pieces that are packed together
  int64_t room = 0, used = 0;
  for (size_t i = 0; i < pieces.size(); i++) {
    if (used && used + size(pieces[i]) > kPanels) {
      ends.push_back(i);
      used = 0;
    }
    pieces[i].at = used;
    used += size(pieces[i]);
    room = std::max(room, used);
  }
  ends.push_back(pieces.size());
  const std::unique_ptr<float[]> panels(new float[static_cast<size_t>(room)]);
  const int64_t blocks = (outputs + kOutputs - 1) / kOutputs;
  std::vector<std::atomic<int64_t>> next(ends.size());
  Pool::instance().run([&](Team& team) {
    size_t begin = 0;
    for (size_t round = 0; round < ends.size(); begin = ends[round++]) {
      for (size_t i = begin; i < ends[round]; i++) pack(team, pieces[i], panels.get() + pieces[i].at);
      team.barrier();
      for (int64_t block; (block = next[round].fetch_add(1, std::memory_order_relaxed)) < blocks;)
        for (size_t i = begin; i < ends[round]; i++) work(block * kOutputs, pieces[i], panels.get() + pieces[i].at);
      team.barrier();
    }
  });
}

// Blocks of kFloatTile columns, [blocks, depth, kFloatTile], of rows(k)[0 ... count).
template <class Rows>
void interleave(Rows rows, int64_t depth, int64_t count, float* out) {
  const int64_t whole = count / kFloatTile * kFloatTile;
  for (int64_t k = 0; k < depth; k++) {
    const float* from = rows(k);
    float* to = out + k * kFloatTile;
    // Rows are far apart, so the hardware does not prefetch them.
    const float* ahead = rows(std::min(k + kAhead, depth - 1));
    for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(ahead + i);
    for (int64_t i = 0; i < whole; i += kFloatTile) std::memcpy(to + i * depth, from + i, kFloatTile * sizeof(float));
    std::copy(from + whole, from + count, to + whole * depth);
  }
}

}  // namespace

void grouped_product(const float* weights, int64_t rows, int64_t columns, bool transposed, const std::vector<int64_t>& load,
                     const GatheredRows& x, const ScatteredRows& y) {
  const int64_t depth = transposed ? rows : columns, outputs = transposed ? columns : rows;
  std::vector<Piece> pieces = pieces_of(load);
  for (Piece& piece : pieces) piece.vectors = piece.count <= kFew && !transposed ? 0 : piece.count > kernels().lanes ? 2 : 1;

  auto size = [&](const Piece& piece) { return piece.panels(piece.count) * piece.width() * depth; };

  auto pack = [&](Team& team, const Piece& piece, float* panels) {
    const auto share = team.share(depth, 16);
    const int64_t width = piece.width();
    if (!piece.vectors) {
      for (int64_t p = 0; p < piece.count; p++)
        std::copy(x.row(piece.first + p) + share.begin, x.row(piece.first + p) + share.end, panels + p * depth + share.begin);
      return;
    }
    for (int64_t p = 0; p < piece.count; p += width) {
      const float* from[kWidest];
      const int64_t inside = std::min(width, piece.count - p);
      for (int64_t i = 0; i < width; i++) from[i] = x.row(piece.first + p + std::min(i, inside - 1));  // padding is never read
      float* to = panels + p * depth;
      for (int64_t k = share.begin; k < share.end; k++)
        for (int64_t i = 0; i < width; i++) to[k * width + i] = from[i][k];
    }
  };

  auto work = [&](int64_t begin, const Piece& piece, const float* panels) {
    alignas(64) float copied[kOutputs * kDepth], sums[kOutputs * kMost];
    const int64_t count = std::min<int64_t>(kOutputs, outputs - begin), width = piece.width(), all = piece.panels(piece.count);
    const float* w = weights + piece.group * rows * columns;
    if (!piece.vectors)
      kernels().float_dots(w + begin * columns, panels, static_cast<int>(count), static_cast<int>(piece.count), depth, sums);
    // A matrix with a single panel is read once, unpacked.
    const int64_t step = all == 1 && !transposed ? depth : kDepth;
    for (int64_t d = 0; piece.vectors && d < depth; d += step) {
      const int64_t n = std::min(step, depth - d);
      const float* a = copied;
      int64_t stride = 0;
      if (transposed) {
        interleave([&](int64_t k) { return w + (d + k) * columns + begin; }, n, count, copied);
      } else if (all == 1) {
        a = w + begin * columns;
        stride = columns;
      } else {
        stride = n;
        for (int64_t i = 0; i < count; i++)
          std::memcpy(copied + i * n, w + (begin + i) * columns + d, static_cast<size_t>(n) * sizeof(float));
      }
      for (int64_t panel = 0; panel < all; panel++)
        for (int64_t i = 0; i < count; i += kFloatTile)
          kernels().float_tile(a + i * (stride ? stride : n), stride, panels + (panel * depth + d) * width,
                         static_cast<int>(std::min<int64_t>(kFloatTile, count - i)), piece.vectors, n,
                             sums + (panel * kOutputs + i) * width, width,
                         d > 0);
    }
    for (int64_t t = 0; t < piece.count; t++) {
      const int64_t p = piece.first + t;
      float* out = y.data + (y.index ? y.index[p] : p) * y.width + begin;
      const float* sum = sums + t / width * kOutputs * width + t % width;
      if (y.index) {
        const float scale = y.scale ? y.scale[p] : 1.0f;
        for (int64_t i = 0; i < count; i++) out[i] += scale * sum[i * width];
      } else {
        for (int64_t i = 0; i < count; i++) out[i] = sum[i * width];
      }
    }
  };

  each_block(std::move(pieces), outputs, size, pack, work);
}

void grouped_outer(const std::vector<int64_t>& load, const GatheredRows& left, const GatheredRows& right, float* out) {
  const int64_t matrix = left.width * right.width;
  std::vector<Piece> pieces = pieces_of(load);
  for (size_t g = 0; g < load.size(); g++)  // a piece without rows clears its outputs
    if (!load[g]) pieces.push_back({static_cast<int64_t>(g), 0, 0, true, 2});

  auto size = [&](const Piece& piece) { return piece.panels(right.width) * piece.width() * piece.count; };

  auto pack = [&](Team& team, const Piece& piece, float* panels) {
    const auto share = team.share(piece.count);
    const int64_t width = piece.width();
    for (int64_t k = share.begin; k < share.end; k++) {
      const float* from = right.row(piece.first + k);
      for (int64_t j = 0; j < right.width; j += width) {
        float* to = panels + j * piece.count + k * width;
        const int64_t n = std::min(width, right.width - j);
        std::copy(from + j, from + j + n, to);
        std::fill(to + n, to + width, 0.0f);
      }
    }
  };

  auto work = [&](int64_t begin, const Piece& piece, const float* panels) {
    alignas(64) float a[kOutputs * kDepth], edge[kFloatTile * kWidest];
    const int64_t count = std::min<int64_t>(kOutputs, left.width - begin), width = piece.width();
    float* block = out + piece.group * matrix + begin * right.width;
    if (!piece.count) std::fill(block, block + count * right.width, 0.0f);
    for (int64_t d = 0; d < piece.count; d += kDepth) {
      const int64_t n = std::min(kDepth, piece.count - d);
      const bool add = d > 0 || !piece.starts;
      interleave([&](int64_t k) { return left.row(piece.first + d + k) + begin; }, n, count, a);
      for (int64_t j = 0; j < right.width; j += width)
        for (int64_t i = 0; i < count; i += kFloatTile) {
          const int tile_rows = static_cast<int>(std::min<int64_t>(kFloatTile, count - i));
          const int64_t inside = std::min(width, right.width - j);
          float* c = block + i * right.width + j;
          if (inside == width) {
            kernels().float_tile(a + i * n, 0, panels + j * piece.count + d * width, tile_rows, 2, n, c, right.width, add);
            continue;
          }
          kernels().float_tile(a + i * n, 0, panels + j * piece.count + d * width, tile_rows, 2, n, edge, width, false);
          for (int r = 0; r < tile_rows; r++)
            for (int64_t s = 0; s < inside; s++) c[r * right.width + s] = edge[r * width + s] + (add ? c[r * right.width + s] : 0.0f);
        }
    }
  };

  each_block(std::move(pieces), left.width, size, pack, work);
}

}  // namespace shortlist
