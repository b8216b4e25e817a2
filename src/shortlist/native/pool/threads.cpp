#include "pool/threads.hpp"

#include <algorithm>
#include <exception>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#endif

namespace shortlist {

namespace {

// The times that this thread spent in Signal::wait: asleep until the signal, and then waiting for a core.
thread_local std::chrono::nanoseconds slept{0}, late{0};

std::chrono::nanoseconds clock_now() { return std::chrono::steady_clock::now().time_since_epoch(); }

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A phase of a decode step takes about 20 microseconds, and members end it a few microseconds apart.
constexpr auto kSpinInTeam = std::chrono::microseconds(50);
// Another program on the same core takes it for a millisecond or more at a time; the system's own work takes less.
constexpr auto kHeldUp = std::chrono::microseconds(1000);
// The next token usually follows within this time.
constexpr auto kSpinBetweenJobs = std::chrono::microseconds(300);

}  // namespace

// ---- waiting ------------------------------------------------------------------------------------------------------

void Signal::announce() {
  count_.fetch_add(1);
  if (!asleep_.load()) return;
  woken_.store(clock_now());
  { std::lock_guard lock(mutex_); }  // a thread about to sleep has checked the count before, or sees the new one
  wake_.notify_all();
}

void Signal::wait(uint32_t seen, std::chrono::nanoseconds spin) {
  for (int i = 0; i < 32; i++, relax())
    if (count_.load() != seen) return;
  const auto sleepy = std::chrono::steady_clock::now() + spin;
  for (int i = 1; i % 32 || std::chrono::steady_clock::now() < sleepy; i++, relax())
    if (count_.load() != seen) return;
  std::unique_lock lock(mutex_);
  const auto start = clock_now();
  asleep_.fetch_add(1);
  wake_.wait(lock, [&] { return count_.load() != seen; });
  asleep_.fetch_sub(1);
  const auto end = clock_now(), told = woken_.load();
  const auto until = told > start && told < end ? told : end;
  slept += until - start;
  late += end - until;
}

void Barrier::wait() {
  const uint32_t seen = passed_.count();
  if (broken_.load()) throw Broken{};
  if (arrived_.fetch_add(1) == count_ - 1) {
    arrived_.store(0);
    passed_.announce();
  } else {
    passed_.wait(seen, kSpinInTeam);
  }
  if (broken_.load()) throw Broken{};
}

void Barrier::break_up() {
  broken_.store(true);
  passed_.announce();
}

// ---- other programs -----------------------------------------------------------------------------------------------

namespace {

// The CPU time and waits of a member of a team since the construction.
class Watch {
 public:
  // `late_before`: the value of `late` when the member was called to work.
  explicit Watch(std::chrono::nanoseconds late_before) : late_before_(late_before) {}
  // Whether the thread was ready but without a core for longer than kHeldUp and for a tenth of the time.
  bool held_up() const {
    const State now;
    const auto all = now.at - start_.at, missing = all - (now.used - start_.used) - (now.asleep - start_.asleep),
        late_here = late - late_before_;
    const auto waited = std::max(late_here, now.preempted > start_.preempted ? missing : late_here);
    return waited > kHeldUp && waited > all / 10;
  }

 private:
  struct State {
    std::chrono::nanoseconds at = clock_now(), used{0}, asleep = slept;
    long preempted = 0;
    State() {
#if defined(RUSAGE_THREAD)
      rusage usage;
      getrusage(RUSAGE_THREAD, &usage);
      auto time = [](const timeval& t) { return std::chrono::seconds(t.tv_sec) + std::chrono::microseconds(t.tv_usec); };
      used = time(usage.ru_utime) + time(usage.ru_stime);
      preempted = usage.ru_nivcsw;
#endif
    }
  };
  const State start_;
  const std::chrono::nanoseconds late_before_;
};

}  // namespace

int Crowd::admitted(int wanted, Clock::time_point now) {
  if (most_ < wanted && now >= next_try_) {
    most_++;
    larger_since_ = now;
    next_try_ = now + kShortest;
  }
  return std::min(most_, wanted);
}

void Crowd::report(int size, int held_up, Clock::time_point now) {
  const bool late = held_up && size > 1;
  late_ = late ? late_ + kForgiven : std::max(0, late_ - 1);
  if (late && late_ >= kPatience) {
    late_ = 0;
    most_ = std::max(1, size - held_up);
    next_try_ = now + pause_;
    pause_ = std::min(4 * pause_, kLongest);
    larger_since_.reset();
  } else if (!late && larger_since_ && now - *larger_since_ > 5 * kShortest) {
    pause_ = kShortest;
  }
}

// ---- jobs ---------------------------------------------------------------------------------------------------------

struct Pool::Job {
  Job(const Work& work, int size) : work(work), size(size), barrier(size) {}
  const Work& work;
  const int size;
  Barrier barrier;
  std::atomic<int> held_up{0};  // number of members
  std::mutex mutex;
  std::exception_ptr error;  // the first one

  // Runs one member's part; if it fails, the others are released from their barriers.
  void member(int id) {
    Team team(id, size, barrier);
    try {
      work(team);
    } catch (const Barrier::Broken&) {
      // another member failed first, and its error is kept
    } catch (...) {
      {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
      barrier.break_up();
    }
  }
};

namespace {

thread_local Workers current_workers;

// A job on the threads of an OpenMP runtime, which may start fewer threads inside another team.
template <class Job>
struct Borrowed {
  const Work& work;
  int (*team_size)();
  std::once_flag counted;
  std::unique_ptr<Job> job;
  std::atomic<int> members{0};

  void member() {
    std::call_once(counted, [&] { job = std::make_unique<Job>(work, team_size()); });
    job->member(members.fetch_add(1));
  }
};

}  // namespace

Workers::Scope::Scope(const Workers& workers) : before_(current_workers) {
  if (workers.threads) current_workers = workers;
}

Workers::Scope::~Scope() { current_workers = before_; }

static int processors() {
#if defined(__linux__)
  cpu_set_t may_use;
  if (sched_getaffinity(0, sizeof may_use, &may_use) == 0) return std::max(1, CPU_COUNT(&may_use));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

Pool& Pool::instance() {
  static Pool* pool = new Pool(processors());  // never destroyed: its threads sleep until the process ends
#if defined(__unix__) || defined(__APPLE__)
  // A forked child has no threads, but locks and condition variables that count them: it starts with a new pool.
  static const int at_fork = pthread_atfork(nullptr, nullptr, [] {
    pool = new Pool(pool->threads());
    pool->forked_ = true;
  });
  (void)at_fork;
#endif
  return *pool;
}

void Pool::run(const Prepare& prepare, const Work& work) {
  const Workers& who = current_workers;
  std::lock_guard running(running_);
  const int size = who.threads ? who.threads : threads();
  prepare(size);
  if (who.runtime.parallel && !forked_) {
    Borrowed<Job> borrowed{work, who.runtime.team_size, {}, {}, {}};
    who.runtime.parallel([](void* data) { static_cast<Borrowed<Job>*>(data)->member(); }, &borrowed, static_cast<unsigned>(size), 0);
    if (borrowed.job->error) std::rethrow_exception(borrowed.job->error);
    return;
  }
  Job job(work, crowd_.admitted(size, Crowd::Clock::now()));
  run_own(job);
  crowd_.report(job.size, job.held_up, Crowd::Clock::now());
  if (job.error) std::rethrow_exception(job.error);
}

void Pool::run_own(Job& job) {
  const int size = job.size;
  while (static_cast<int>(starts_.size()) < size - 1) {
    auto start = std::make_unique<Signal>();
    std::thread(&Pool::work_on, this, std::ref(*start), static_cast<int>(starts_.size()) + 1).detach();
    starts_.push_back(std::move(start));
  }
  const Watch watch(late);
  job_ = &job;
  const uint32_t seen = finished_.count();
  unfinished_.store(size - 1);
  for (int id = 1; id < size; id++) starts_[static_cast<size_t>(id - 1)]->announce();
  job.member(0);
  if (size > 1) finished_.wait(seen, kSpinInTeam);
  if (watch.held_up()) job.held_up++;
}

void Pool::work_on(Signal& start, int id) {
  for (uint32_t seen = 0;; seen++) {
    const auto late_before = late;
    start.wait(seen, kSpinBetweenJobs);
    const Watch watch(late_before);
    job_->member(id);
    if (watch.held_up()) job_->held_up++;
    if (unfinished_.fetch_sub(1) == 1) finished_.announce();
  }
}

}  // namespace shortlist
