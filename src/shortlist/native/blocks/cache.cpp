#include "blocks/cache.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace shortlist {

Cache::Cache(std::shared_ptr<Owner> owner, const std::vector<StateSize>& states, int64_t capacity, bool full_precision)
    : owner(std::move(owner)), capacity(capacity), full_precision(full_precision) {
  for (const StateSize& size : states) {
    const size_t row_bytes = static_cast<size_t>(size.values) * (full_precision || size.exact ? 4 : 2), rows = static_cast<size_t>(size.rows);
    states_.push_back({bytes_, row_bytes, rows, size.fixed});
    token_bytes_ += rows * row_bytes;
    bytes_ += (rows * row_bytes * static_cast<size_t>(capacity) + size.fixed + 63) / 64 * 64;
  }
  if (!bytes_) bytes_ = 64;
#if defined(__linux__)
  // Small pages on purpose: a huge page per head would commit most of an empty cache.
  void* p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<uint8_t*>(p);
#else
  data_ = static_cast<uint8_t*>(std::calloc(bytes_, 1));
  if (!data_) throw std::bad_alloc();
#endif
}

Cache::~Cache() {
#if defined(__linux__)
  munmap(data_, bytes_);
#else
  std::free(data_);
#endif
}

void Cache::cut(int64_t positions) {
  if (positions < 0 || positions > length) throw std::invalid_argument("a cache can only be cut to fewer positions");
  if (positions < length && positions > 0 && recurrent_bytes())
    throw std::invalid_argument("a recurrent state cannot go back: restore a snapshot of that position");
  if (positions == 0)
    for (const State& s : states_) std::memset(data_ + s.begin, 0, s.fixed);
  length = positions;
}

void Cache::truncate(int64_t positions) {
  std::lock_guard lock(owner->busy);
  cut(positions);
}

void Cache::discard(int64_t positions) {
  std::lock_guard lock(owner->busy);
  cut(positions);
#if defined(__linux__)
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), kept = static_cast<size_t>(positions), all = static_cast<size_t>(capacity);
  for (const State& s : states_)
    for (size_t r = 0; r < s.rows; r++) {
      // Whole pages between what is kept of this row and the next one.
      const size_t first = s.begin + r * all * s.row_bytes, begin = (first + kept * s.row_bytes + page - 1) / page * page;
      const size_t end = (first + all * s.row_bytes) / page * page;
      if (begin < end) madvise(data_ + begin, end - begin, MADV_DONTNEED);
    }
#endif
}

void Cache::take_over(const Cache& from, int64_t positions) {
  if (from.owner != owner || from.full_precision != full_precision) throw std::invalid_argument("the caches are not of the same decoder and precision");
  std::lock_guard lock(owner->busy);
  if (positions > from.length || positions > capacity) throw std::length_error("a cache can only take over positions that are there, and that it has room for");
  if (positions != from.length && positions && recurrent_bytes())
    throw std::invalid_argument("a recurrent state cannot go back: restore a snapshot of that position");
  for (size_t i = 0; i < states_.size(); i++) {
    const int state = static_cast<int>(i);
    const State& s = states_[i];
    for (int r = 0; r < static_cast<int>(s.rows); r++) std::memcpy(row(state, r, 0), from.row(state, r, 0), s.row_bytes * static_cast<size_t>(positions));
    if (s.fixed) std::memcpy(recurrent(state), from.recurrent(state), s.fixed);
  }
  length = positions;
}

size_t Cache::recurrent_bytes() const {
  size_t bytes = 0;
  for (const State& s : states_) bytes += s.fixed;
  return bytes;
}

std::vector<uint8_t> Cache::snapshot() const {
  std::lock_guard lock(owner->busy);
  std::vector<uint8_t> copy;
  for (const State& s : states_) copy.insert(copy.end(), data_ + s.begin, data_ + s.begin + s.fixed);
  return copy;
}

void Cache::restore(const std::vector<uint8_t>& snapshot, int64_t positions) {
  std::lock_guard lock(owner->busy);
  if (snapshot.size() != recurrent_bytes() || positions < 0 || positions > length) throw std::invalid_argument("a snapshot is of another decoder or a later position");
  size_t at = 0;
  for (const State& s : states_) {
    std::memcpy(data_ + s.begin, snapshot.data() + at, s.fixed);
    at += s.fixed;
  }
  length = positions;
}

}  // namespace shortlist
