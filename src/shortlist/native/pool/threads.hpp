// One pool of threads for the whole process. Work is a team: every thread runs the same function and meets the others
// at barriers, so that a decode step of a hundred small products wakes its threads once, not a hundred times.
//
// Who waits spins for a moment, as what it waits for usually follows at once, then sleeps. On a busy machine the thread that is
// waited for may have lost its processor to another program: spinning would only take another processor from it.
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

// Something that one thread announces, again and again, and that others wait for.
class Signal {
 public:
  // How often it was announced: what is read before the reason for waiting is checked, so that nothing is missed.
  uint32_t count() const { return count_.load(); }
  void announce();
  // Until it was announced after `seen` was read.
  void wait(uint32_t seen, std::chrono::nanoseconds spin);

 private:
  std::atomic<uint32_t> count_{0};
  std::atomic<int> asleep_{0};
  std::atomic<std::chrono::nanoseconds> woken_{};  // when sleepers were last told, on the steady clock
  std::mutex mutex_;
  std::condition_variable wake_;
};

class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait();      // throws Broken when another member failed
  void break_up();  // frees all who wait, and who come later
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

// How another runtime starts a team of threads: OpenMP's, by the names that GCC's library exports.
struct Runtime {
  void (*parallel)(void (*work)(void*), void* data, unsigned threads, unsigned flags) = nullptr;
  int (*team_size)() = nullptr;
};

// Which threads compute what a thread of the program calls. A scope says it for the calls of the thread that opens it.
struct Workers {
  int threads = 0;  // 0: as it was around the scope, and the pool's default outside of all
  Runtime runtime;  // if there, its threads instead of the pool's

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

// How many members a team may have on a machine that runs other programs too. Every barrier waits for the slowest member, and a
// member that shares a processor with a busy program is slower than all the work of a team without it: it is left out, and tried
// again later, after longer pauses the more often that was in vain. One late job proves nothing, as a virtual machine is held up now
// and then: members are left out where more than one job in kForgiven + 1 is late, kPatience / kForgiven of them in a row at least.
class Crowd {
 public:
  using Clock = std::chrono::steady_clock;
  // Members of the next team, at most `wanted`.
  int admitted(int wanted, Clock::time_point now);
  // A team of `size` has worked, and `held_up` of its members had to wait for a processor.
  void report(int size, int held_up, Clock::time_point now);

 private:
  static constexpr std::chrono::milliseconds kShortest{20}, kLongest{2000};
  static constexpr int kForgiven = 4, kPatience = 12;  // jobs in time that make up for a late one; when patience ends
  int most_ = 1 << 20;
  int late_ = 0;
  std::chrono::milliseconds pause_ = kShortest;
  Clock::time_point next_try_{};
  std::optional<Clock::time_point> larger_since_;  // the last try, as long as it goes well
};

class Pool {
 public:
  static Pool& instance();
  // The default of calls that no scope gives a number of threads: as many as the process may use, until it is set. Jobs that run are
  // not touched.
  void set_threads(int threads) { threads_.store(threads); }
  int threads() const { return threads_.load(); }
  // Runs work(team) on every thread and returns when all are done. An exception in any of them is rethrown here. One job runs at a
  // time, and others wait for it.
  void run(const Work& work) {
    run([](int) {}, work);
  }
  // Calls prepare(members) first, when no other job runs and the team can only be smaller: the place to size what each member needs.
  void run(const Prepare& prepare, const Work& work);

 private:
  struct Job;
  explicit Pool(int threads) : threads_(threads) {}
  void work_on(Signal& start, int id);
  void run_own(Job& job);

  std::mutex running_;  // one job at a time
  std::atomic<int> threads_;
  std::vector<std::unique_ptr<Signal>> starts_;  // of each thread, of which there are as many as the largest team had, but its caller
  Crowd crowd_;
  Job* job_ = nullptr;
  std::atomic<int> unfinished_{0};
  Signal finished_;
  bool forked_ = false;  // the threads of an OpenMP runtime do not survive a fork: from then on the pool's own do all work
};

}  // namespace shortlist
