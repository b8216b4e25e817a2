// One pool of threads for the whole process. Work is a team: every thread runs the same function and meets the others
// at barriers, so that a decode step of a hundred small products wakes its threads once, not a hundred times.
// Between jobs the workers spin for a fraction of a millisecond (the next token usually follows at once), then sleep.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace shortlist {

class Barrier {
 public:
  void reset(int count) {
    count_ = count;
    arrived_.store(0, std::memory_order_relaxed);
    broken_.store(false, std::memory_order_relaxed);
  }
  void wait();           // throws Broken when another member failed
  void break_up() { broken_.store(true, std::memory_order_release); }
  struct Broken {};

 private:
  int count_ = 1;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> generation_{0};
  std::atomic<bool> broken_{false};
};

class Team {
 public:
  Team(int id, int size, Barrier& barrier) : id(id), size(size), barrier_(barrier) {}
  const int id, size;
  void barrier() {
    if (size > 1) barrier_.wait();
  }
  // This member's share [begin, end) of `count` units, in multiples of `grain`.
  struct Range {
    int64_t begin, end;
  };
  Range share(int64_t count, int64_t grain = 1) const {
    int64_t pieces = (count + grain - 1) / grain;
    int64_t begin = pieces * id / size * grain, end = pieces * (id + 1) / size * grain;
    return {begin < count ? begin : count, end < count ? end : count};
  }

 private:
  Barrier& barrier_;
};

// How another runtime starts a team of threads: OpenMP's, by the names that GCC's library exports.
struct Runtime {
  void (*parallel)(void (*work)(void*), void* data, unsigned threads, unsigned flags) = nullptr;
  int (*team_size)() = nullptr;

  void run(int threads, const std::function<void(Team&)>& work) const;  // as Pool::run
};

class Pool {
 public:
  static Pool& instance();
  void resize(int threads);  // 1 or more; joins and restarts the workers
  int threads() const { return threads_; }
  // From now on jobs run on the runtime's threads. Between two parallel parts of a program these spin, and a second set of threads
  // would have to share the processors with them.
  void borrow(Runtime runtime);
  // Runs work(team) on every thread and returns when all are done. An exception in any of them is rethrown here.
  void run(const std::function<void(Team&)>& work);

 private:
  explicit Pool(int threads) : threads_(threads) {}
  void worker(int id, uint64_t seen);  // seen: the last job that was announced before this thread existed
  void stop();
  void member(int id);

  std::mutex running_;  // one job at a time
  Runtime borrowed_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
  int threads_;
  const std::function<void(Team&)>* work_ = nullptr;
  std::atomic<uint64_t> job_{0};
  std::atomic<int> unfinished_{0};
  std::atomic<int> asleep_{0};
  std::atomic<bool> stopping_{false};
  Barrier barrier_;
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

}  // namespace shortlist
