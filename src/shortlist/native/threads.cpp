#include "threads.hpp"

#include <chrono>

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

// Spins politely: after a while the processor is offered to others, in case the thread waited for has none.
template <class Done>
void spin_until(Done done) {
  for (int i = 0; !done(); i++) {
    if (i < 1000)
      relax();
    else
      std::this_thread::yield();
  }
}

constexpr auto kSpinBeforeSleep = std::chrono::microseconds(300);

// One member's part; the first error is kept, and the others are freed from their barriers.
void run_member(const std::function<void(Team&)>& work, Team team, Barrier& barrier, std::mutex& mutex, std::exception_ptr& error) {
  try {
    work(team);
  } catch (const Barrier::Broken&) {
    // another member failed first and said why
  } catch (...) {
    std::lock_guard lock(mutex);
    if (!error) error = std::current_exception();
    barrier.break_up();
  }
}

}  // namespace

void Barrier::wait() {
  uint32_t now = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == count_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.store(now + 1, std::memory_order_release);
  } else {
    spin_until([&] { return generation_.load(std::memory_order_acquire) != now || broken_.load(std::memory_order_acquire); });
  }
  if (broken_.load(std::memory_order_acquire)) throw Broken{};
}

namespace {

struct Job {
  const std::function<void(Team&)>& work;
  int (*team_size)();
  Barrier barrier;
  std::once_flag counted;
  std::atomic<int> members{0};
  std::mutex mutex;
  std::exception_ptr error;

  void member() {
    const int size = team_size();  // fewer than were asked for, inside another team
    std::call_once(counted, [&] { barrier.reset(size); });
    run_member(work, Team(members.fetch_add(1), size, barrier), barrier, mutex, error);
  }
};

}  // namespace

void Runtime::run(int threads, const std::function<void(Team&)>& work) const {
  Job job{work, team_size, {}, {}, {}, {}, {}};
  parallel([](void* data) { static_cast<Job*>(data)->member(); }, &job, static_cast<unsigned>(threads), 0);
  if (job.error) std::rethrow_exception(job.error);
}

Pool& Pool::instance() {
  static Pool* pool = new Pool(1);  // never destroyed: its threads sleep until the process ends
#if defined(__unix__) || defined(__APPLE__)
  // A fork leaves the threads behind, and locks and condition variables that count them: the child starts with a new pool.
  static const int at_fork = pthread_atfork(nullptr, nullptr, [] { pool = new Pool(pool->threads_); });
  (void)at_fork;
#endif
  return *pool;
}

void Pool::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_.store(true);
  }
  wake_.notify_all();
  for (auto& w : workers_) w.join();
  workers_.clear();
  stopping_.store(false);
}

void Pool::resize(int threads) {
  std::lock_guard running(running_);
  if (threads == threads_) return;
  stop();
  threads_ = threads;  // the workers start with the next job
}

void Pool::borrow(Runtime runtime) {
  std::lock_guard running(running_);
  stop();
  borrowed_ = runtime;
}

void Pool::run(const std::function<void(Team&)>& work) {
  std::lock_guard running(running_);
  if (borrowed_.parallel) return borrowed_.run(threads_, work);
  if (static_cast<int>(workers_.size()) != threads_ - 1)
    for (int id = 1; id < threads_; id++) workers_.emplace_back([this, id, seen = job_.load()] { worker(id, seen); });

  barrier_.reset(threads_);
  error_ = nullptr;
  work_ = &work;
  unfinished_.store(threads_ - 1, std::memory_order_relaxed);
  {
    // The lock orders the new job against a worker that is about to sleep.
    std::lock_guard lock(mutex_);
    job_.fetch_add(1, std::memory_order_release);
  }
  if (asleep_.load(std::memory_order_acquire)) wake_.notify_all();
  member(0);
  spin_until([&] { return unfinished_.load(std::memory_order_acquire) == 0; });
  if (error_) std::rethrow_exception(error_);
}

void Pool::member(int id) { run_member(*work_, Team(id, threads_, barrier_), barrier_, error_mutex_, error_); }

void Pool::worker(int id, uint64_t seen) {
  while (true) {
    auto sleepy = std::chrono::steady_clock::now() + kSpinBeforeSleep;
    for (int i = 1; job_.load(std::memory_order_acquire) == seen && !stopping_.load(std::memory_order_acquire); i++) {
      relax();
      if (i % 64 == 0 && std::chrono::steady_clock::now() > sleepy) {
        std::unique_lock lock(mutex_);
        asleep_.fetch_add(1);
        wake_.wait(lock, [&] { return job_.load() != seen || stopping_.load(); });
        asleep_.fetch_sub(1);
      }
    }
    if (stopping_.load(std::memory_order_acquire)) return;
    seen = job_.load(std::memory_order_acquire);
    member(id);
    unfinished_.fetch_sub(1, std::memory_order_acq_rel);
  }
}

}  // namespace shortlist
