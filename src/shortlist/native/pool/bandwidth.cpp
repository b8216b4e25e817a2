#include "pool/bandwidth.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "pool/memory.hpp"
#include "pool/threads.hpp"

namespace shortlist {

namespace {
// Eight independent sums keep enough loads in flight; the compiler makes them vectors.
uint64_t sum_words(const uint8_t* p, size_t bytes) {
  constexpr int lanes = 32;
  uint64_t sums[lanes] = {};
  for (size_t i = 0; i + lanes * 8 <= bytes; i += lanes * 8) {
    uint64_t words[lanes];
    std::memcpy(words, p + i, sizeof words);
    for (int j = 0; j < 4; j++) __builtin_prefetch(p + i + 3072 + j * 64);
    for (int j = 0; j < lanes; j++) sums[j] += words[j];
  }
  uint64_t total = 0;
  for (uint64_t s : sums) total += s;
  return total;
}
std::atomic<uint64_t> sink;  // keeps the sums from being optimised away
}  // namespace

double read_bandwidth(size_t bytes, int runs) {
  Mapping block(bytes + 8192);
  std::memset(block.data(), 1, bytes);
  double best = 0.0;
  for (int run = 0; run < runs; run++) {
    const auto start = std::chrono::steady_clock::now();
    Pool::instance().run([&](Team& team) {
      const auto share = team.share(static_cast<int64_t>(bytes), 4096);
      sink += sum_words(block.data() + share.begin, static_cast<size_t>(share.end - share.begin));
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(bytes) / took.count() / 1e9);
  }
  return best;
}

}  // namespace shortlist
