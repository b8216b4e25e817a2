// One pool of threads for the whole process. A job runs on a team: every thread runs the same function and waits for the
// others at barriers, so that a decode step of a hundred small products wakes its threads once, not a hundred times.
//
// A waiting thread spins for a moment, because the signal usually follows at once, and then sleeps. On a busy machine the thread
// that must signal may have lost its core to another program: spinning would take another core from it.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace shortlist {

// An event that one thread announces repeatedly, and others wait for.
class Signal {
 public:
  // The number of announcements. Read it before you check the reason for waiting, so that none is missed.
  uint32_t count() const { return count_.load(); }
  void announce();
  // Waits for an announcement after `seen` was read.
  void wait(uint32_t seen, std::chrono::nanoseconds spin);

 private:
  std::atomic<uint32_t> count_{0};
  std::atomic<int> asleep_{0};
  std::atomic<std::chrono::nanoseconds> woken_{};  // time of the last announcement to sleepers, on the steady clock
  std::mutex mutex_;
  std::condition_variable wake_;
};

class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait();      // throws Broken when another member failed
  void break_up();  // releases all waiting threads, and those that come later
  struct Broken {};

 private:
  const int count_;
  std::atomic<int> arrived_{0};
  std::atomic<bool> broken_{false};
  Signal passed_;
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

using Work = std::function<void(Team&)>;
using Prepare = std::function<void(int members)>;

// The functions by which another runtime starts a team: those of OpenMP, as GCC's library exports them.
struct Runtime {
  void (*parallel)(void (*work)(void*), void* data, unsigned threads, unsigned flags) = nullptr;
  int (*team_size)() = nullptr;
};

// The threads that compute the calls of a thread of the program. A scope sets them for the thread that opens it.
struct Workers {
  int threads = 0;  // 0: the number of the enclosing scope, or the pool's default
  Runtime runtime;  // if set, its threads are used instead of the pool's

  class Scope;
};

class Workers::Scope {
 public:
  explicit Scope(const Workers& workers);
  explicit Scope(int threads) : Scope(Workers{threads, {}}) {}
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  const Workers before_;
};

// The number of members of a team on a machine that runs other programs, too. Every barrier waits for the slowest member, and a
// member that shares a core with a busy program is slower than the whole work of a smaller team. So it is left out and tried again
// later, after a longer pause each time that fails. One late job proves nothing, because a virtual machine is sometimes held up:
// members are left out where more than one job in kForgiven + 1 is late, and at least kPatience / kForgiven of them in a row.
class Crowd {
 public:
  using Clock = std::chrono::steady_clock;
  // The number of members of the next team, at most `wanted`.
  int admitted(int wanted, Clock::time_point now);
  // Records that a team of `size` has worked, and that `held_up` of its members had to wait for a core.
  void report(int size, int held_up, Clock::time_point now);

 private:
  static constexpr std::chrono::milliseconds kShortest{20}, kLongest{2000};
  static constexpr int kForgiven = 4, kPatience = 12;  // jobs in time that offset a late one; the count at which members are left out
  int most_ = 1 << 20;
  int late_ = 0;
  std::chrono::milliseconds pause_ = kShortest;
  Clock::time_point next_try_{};
  std::optional<Clock::time_point> larger_since_;  // the last trial of a larger team, while it goes well
};

class Pool {
 public:
  static Pool& instance();
  // The default number of threads of calls without a scope: all cores that the process may use, until it is set. Running jobs are not
  // affected.
  void set_threads(int threads) { threads_.store(threads); }
  int threads() const { return threads_.load(); }
  // Runs work(team) on every thread and returns when all are done. An exception of a member is rethrown here. One job runs at a time;
  // others wait for it.
  void run(const Work& work) {
    run([](int) {}, work);
  }
  // Calls prepare(members) first, when no other job runs and the team can only become smaller: there the buffers of members are sized.
  void run(const Prepare& prepare, const Work& work);

 private:
  struct Job;
  explicit Pool(int threads) : threads_(threads) {}
  void work_on(Signal& start, int id);
  void run_own(Job& job);

  std::mutex running_;  // one job at a time
  std::atomic<int> threads_;
  std::vector<std::unique_ptr<Signal>> starts_;  // one for each thread; there are as many as the largest team had, without its caller
  Crowd crowd_;
  Job* job_ = nullptr;
  std::atomic<int> unfinished_{0};
  Signal finished_;
  bool forked_ = false;  // an OpenMP runtime's threads do not survive a fork: afterwards the pool's own threads do all work
};

}  // namespace shortlist
