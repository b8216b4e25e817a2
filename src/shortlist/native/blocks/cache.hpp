// What a decoder keeps of one sequence: the states of its blocks. A block declares its state (StateSize), gets a number for it when
// its layer joins a decoder, and reaches it through that number alone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace shortlist {

// What a block keeps of a sequence: so many rows of values for each position (keys and values of every head), or a recurrent state
// of a fixed size, which starts with zeros.
struct StateSize {
  int rows = 0, values = 0;  // of each position, and of each row
  bool exact = false;        // rows are float32 whatever the precision of the cache
  size_t fixed = 0;          // bytes of a recurrent state

  explicit operator bool() const { return rows || fixed; }
};

// Shared by a decoder and the caches that were made for it: whose they are, and that one call at a time uses any of them.
struct Owner {
  std::mutex busy;
};

// The states of one sequence. Rows of a state lie by their number, [rows, capacity, values]. Memory is reserved at once and used as
// it fills.
class Cache {
 public:
  Cache(std::shared_ptr<Owner> owner, const std::vector<StateSize>& states, int64_t capacity, bool full_precision);
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  const std::shared_ptr<Owner> owner;
  int64_t length = 0;
  const int64_t capacity;
  const bool full_precision;  // float32 instead of float16
  size_t token_bytes() const { return token_bytes_; }  // of one position, all states
  // Keeps the first `length` positions. Throws std::invalid_argument where there are fewer, or where a recurrent state would have
  // to go back to them.
  void truncate(int64_t length);
  // The same, and gives the memory of the others back.
  void discard(int64_t length);
  // Makes the first `length` positions those of another cache of the same decoder, precision and at least that length.
  void take_over(const Cache& from, int64_t length);
  // A row of a state at a position; those of the positions that follow lie behind it.
  uint8_t* row(int state, int row, int64_t position) const {
    const State& s = states_[static_cast<size_t>(state)];
    return data_ + s.begin + (static_cast<size_t>(row) * static_cast<size_t>(capacity) + static_cast<size_t>(position)) * s.row_bytes;
  }
  // The recurrent state of a block.
  uint8_t* recurrent(int state) const { return data_ + states_[static_cast<size_t>(state)].begin; }
  // All recurrent states as they are after `length` positions, one behind the other.
  std::vector<uint8_t> snapshot() const;
  // Goes back to what snapshot() gave after `length` positions, of which this cache still has the rows.
  void restore(const std::vector<uint8_t>& snapshot, int64_t length);

 private:
  struct State {
    size_t begin, row_bytes, rows, fixed;
  };
  void cut(int64_t length);
  size_t recurrent_bytes() const;
  std::vector<State> states_;
  size_t token_bytes_ = 0, bytes_ = 0;
  uint8_t* data_ = nullptr;
};

}  // namespace shortlist
