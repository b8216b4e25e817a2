// Memory for weights: large mappings on 2 MB pages, because every token walks through all of them and small pages
// would miss the TLB at each step. An Arena packs many small matrices into few mappings.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace shortlist {

constexpr size_t kHugePage = size_t{2} << 20;

class Mapping {
 public:
  explicit Mapping(size_t bytes) : bytes_((bytes + kHugePage - 1) / kHugePage * kHugePage) {
#if defined(__linux__)
    // Over-reserve by one page so that the start can be aligned: only touched pages cost memory.
    base_ = mmap(nullptr, bytes_ + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base_ == MAP_FAILED) throw std::bad_alloc();
    data_ = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(base_) + kHugePage - 1) / kHugePage * kHugePage);
    madvise(data_, bytes_, MADV_HUGEPAGE);  // advice only: without it everything still works, slower
#else
    data_ = static_cast<uint8_t*>(std::aligned_alloc(kHugePage, bytes_));
    if (!data_) throw std::bad_alloc();
    std::memset(data_, 0, bytes_);
#endif
  }
  ~Mapping() {
#if defined(__linux__)
    munmap(base_, bytes_ + kHugePage);
#else
    std::free(data_);
#endif
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_;
  void* base_ = nullptr;
  uint8_t* data_ = nullptr;
};

// A piece of a mapping that keeps the mapping alive. Zero-filled.
struct Block {
  std::shared_ptr<Mapping> owner;
  uint8_t* data = nullptr;
};

class Arena {
 public:
  Block take(size_t bytes) {
    constexpr size_t chunk = size_t{16} << 20, slack = 4096;  // slack: prefetches may run past the last row
    bytes = (bytes + slack + 63) / 64 * 64;
    std::lock_guard lock(mutex_);
    if (bytes >= chunk / 2) {
      auto own = std::make_shared<Mapping>(bytes);
      return {own, own->data()};
    }
    if (!current_ || used_ + bytes > current_->bytes()) {
      current_ = std::make_shared<Mapping>(chunk);
      used_ = 0;
    }
    Block block{current_, current_->data() + used_};
    used_ += bytes;
    return block;
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<Mapping> current_;
  size_t used_ = 0;
};

}  // namespace shortlist
