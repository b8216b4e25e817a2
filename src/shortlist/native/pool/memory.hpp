// Memory for weights: large mappings on 2 MB pages, because every token reads all of them, and small pages would miss
// the TLB at each page. An Arena packs many small matrices into few mappings.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

#include <sys/mman.h>

namespace shortlist {

constexpr size_t kSmallPage = 4096, kHugePage = size_t{2} << 20;

class Mapping {
 public:
  // Huge pages for sizes from one page on; smaller blocks would waste most of a page.
  explicit Mapping(size_t bytes) {
    const size_t page = bytes < kHugePage ? kSmallPage : kHugePage;
    bytes_ = (bytes + page - 1) / page * page;
    mapped_ = bytes_ + (page == kHugePage ? page : 0);  // one page more, to align the start
    base_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base_ == MAP_FAILED) throw std::bad_alloc();
    data_ = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(base_) + page - 1) / page * page);
#if defined(MADV_HUGEPAGE)
    if (page == kHugePage) madvise(data_, bytes_, MADV_HUGEPAGE);  // advice only: without huge pages everything works, but slower
#endif
  }
  ~Mapping() { munmap(base_, mapped_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_, mapped_;
  void* base_ = nullptr;
  uint8_t* data_ = nullptr;
};

// A piece of a mapping that keeps the mapping alive. Zero-filled.
struct Allocation {
  std::shared_ptr<Mapping> owner;
  uint8_t* data = nullptr;
};

// Takes few large mappings of `chunk` bytes, because each ends in a partly filled page. Pages that are not accessed cost
// no memory. With a chunk of 0 every block gets its own mapping.
class Arena {
 public:
  explicit Arena(size_t chunk = size_t{256} << 20) : chunk_(chunk) {}
  Allocation take(size_t bytes) {
    constexpr size_t slack = 4096;  // for a prefetch past the last row; some reach further (kAhead), and none ever faults
    bytes = (bytes + slack + 63) / 64 * 64;
    std::lock_guard lock(mutex_);
    if (!current_ || used_ + bytes > current_->bytes()) {
      current_ = std::make_shared<Mapping>(std::max(bytes, chunk_));
      used_ = 0;
    }
    Allocation piece{current_, current_->data() + used_};
    used_ += bytes;
    return piece;
  }

 private:
  const size_t chunk_;
  std::mutex mutex_;
  std::shared_ptr<Mapping> current_;
  size_t used_ = 0;
};

}  // namespace shortlist
