// What one forward pass has to itself: its tokens, where they go, and the memory that blocks write to on the way. A call borrows a
// context, and memory in it is sized when the team is known, inside the pool's lock.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "blocks/cache.hpp"
#include "blocks/linear.hpp"

namespace shortlist {

// Where the state of a token goes.
struct Place {
  Cache* cache;
  int64_t position;
};

// Sizes that tell the memory of one kind of block from that of another of its kind.
using Sizes = std::array<int64_t, 4>;

class Context {
 public:
  explicit Context(int width) : width(width), normed(width) {}

  const int width;  // of the residual stream
  const int32_t* tokens = nullptr;
  const Rows* embedding = nullptr;
  std::vector<Place> places;  // of the tokens
  int64_t longest = 0;        // positions that one of them attends to
  int count = 0;              // tokens
  int members = 0;            // of the team, at most
  // One for each token, or for each member where all compute the same token (OwnTokens).
  int slots() const { return std::max(count, members); }

  Activations normed;           // input of the current blocks
  Vector residual, scaled;      // [slots, width]
  std::vector<Vector> outputs;  // of blocks in parallel, [slots, width] each

  // The memory of blocks of one kind and these sizes: made before a team works, and found by its members. T is made from Sizes.
  template <class T>
  T& make(const Sizes& sizes = {}) {
    if (T* found = find<T>(sizes)) return *found;
    auto made = std::make_shared<T>(sizes);
    scratch_.push_back({&kKind<T>, sizes, made});
    return *made;
  }
  template <class T>
  T& get(const Sizes& sizes = {}) const {
    if (T* found = find<T>(sizes)) return *found;
    throw std::logic_error("a block has no memory in this context");
  }

 private:
  template <class T>
  static inline char kKind = 0;  // its address names T
  struct Entry {
    const void* kind;
    Sizes sizes;
    std::shared_ptr<void> data;
  };
  template <class T>
  T* find(const Sizes& sizes) const {
    for (const Entry& entry : scratch_)
      if (entry.kind == &kKind<T> && entry.sizes == sizes) return static_cast<T*>(entry.data.get());
    return nullptr;
  }
  std::vector<Entry> scratch_;
};

// Makes a vector at least this long.
inline void grow(Vector& vector, size_t size) {
  if (vector.size() < size) vector.resize(size);
}

}  // namespace shortlist
