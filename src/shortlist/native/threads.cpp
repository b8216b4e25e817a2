#include "threads.hpp"

#include <exception>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace shortlist {

namespace {

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A phase of a decode step takes some 20 microseconds, and its members end it a few apart.
constexpr auto kSpinInTeam = std::chrono::microseconds(50);
// The next token usually follows within this.
constexpr auto kSpinBetweenJobs = std::chrono::microseconds(300);

}  // namespace

// ---- waiting ------------------------------------------------------------------------------------------------------

void Signal::announce() {
  count_.fetch_add(1);
  if (!asleep_.load()) return;
  { std::lock_guard lock(mutex_); }  // who is about to sleep has looked at the count before, or sees the new one
  wake_.notify_all();
}

void Signal::wait(uint32_t seen, std::chrono::nanoseconds spin) {
  for (int i = 0; i < 32; i++, relax())
    if (count_.load() != seen) return;
  const auto sleepy = std::chrono::steady_clock::now() + spin;
  for (int i = 1; i % 32 || std::chrono::steady_clock::now() < sleepy; i++, relax())
    if (count_.load() != seen) return;
  std::unique_lock lock(mutex_);
  asleep_.fetch_add(1);
  wake_.wait(lock, [&] { return count_.load() != seen; });
  asleep_.fetch_sub(1);
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

// ---- jobs ---------------------------------------------------------------------------------------------------------

struct Pool::Job {
  Job(const Work& work, int size) : work(work), size(size), barrier(size) {}
  const Work& work;
  const int size;
  Barrier barrier;
  std::mutex mutex;
  std::exception_ptr error;  // the first one

  // One member's part; where it fails, the others are freed from their barriers.
  void member(int id) {
    Team team(id, size, barrier);
    try {
      work(team);
    } catch (const Barrier::Broken&) {
      // another member failed first and said why
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

// A job on the threads of an OpenMP runtime, which starts fewer than were asked for inside another team.
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

Pool& Pool::instance() {
  static Pool* pool = new Pool(1);  // never destroyed: its threads sleep until the process ends
#if defined(__unix__) || defined(__APPLE__)
  // A fork leaves the threads behind, and locks and condition variables that count them: the child starts with a new pool.
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
  Job job(work, size);
  run_own(job, size);
  if (job.error) std::rethrow_exception(job.error);
}

void Pool::run_own(Job& job, int size) {
  while (static_cast<int>(starts_.size()) < size - 1) {
    auto start = std::make_unique<Signal>();
    std::thread(&Pool::work_on, this, std::ref(*start), static_cast<int>(starts_.size()) + 1).detach();
    starts_.push_back(std::move(start));
  }
  job_ = &job;
  const uint32_t seen = finished_.count();
  unfinished_.store(size - 1);
  for (int id = 1; id < size; id++) starts_[static_cast<size_t>(id - 1)]->announce();
  job.member(0);
  if (size > 1) finished_.wait(seen, kSpinInTeam);
}

void Pool::work_on(Signal& start, int id) {
  for (uint32_t seen = 0;; seen++) {
    start.wait(seen, kSpinBetweenJobs);
    job_->member(id);
    if (unfinished_.fetch_sub(1) == 1) finished_.announce();
  }
}

}  // namespace shortlist
