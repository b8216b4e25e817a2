// The pool of threads in the Python module: how many threads a call runs on, and whose.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "bind_arrays.hpp"
#include "threads.hpp"

namespace shortlist {

namespace {

void check_threads(int threads) {
  if (threads < 1 || threads > 1024) throw std::invalid_argument("threads must be between 1 and 1024");
}

// The scopes that `with` statements opened, of each thread of Python.
thread_local std::vector<std::unique_ptr<Workers::Scope>> open_scopes;

}  // namespace

void bind_workers(nb::module_& m) {
  m.def("threads", [] { return Pool::instance().threads(); }, "Threads of calls that nothing else gives a number.");
  m.def(
      "set_threads",
      [](int threads) {
        check_threads(threads);
        Pool::instance().set_threads(threads);
      },
      "n"_a, "Set the threads of calls that nothing else gives a number. Calls that run are not touched.");

  nb::class_<Workers>(m, "Workers", "Inside `with Workers(...)` what this thread of Python calls runs on so many threads.")
      .def(
          "__init__",
          [](Workers* self, int threads, size_t parallel, size_t team_size) {
            if (threads) check_threads(threads);
            if (!parallel != !team_size) throw std::invalid_argument("a runtime needs both of its functions");
            new (self) Workers{threads, {reinterpret_cast<void (*)(void (*)(void*), void*, unsigned, unsigned)>(parallel), reinterpret_cast<int (*)()>(team_size)}};
          },
          "threads"_a, "parallel"_a = 0, "team_size"_a = 0,
          "0 threads: as outside. With the addresses of an OpenMP runtime's GOMP_parallel and omp_get_num_threads, on its threads; in a forked process, "
          "which these do not survive, on the pool's.")
      .def_ro("threads", &Workers::threads)
      .def("__enter__", [](const Workers& workers) { open_scopes.push_back(std::make_unique<Workers::Scope>(workers)); })
      .def("__exit__", [](const Workers&, nb::args) {
        if (open_scopes.empty()) throw std::invalid_argument("this thread is in no such block");
        open_scopes.pop_back();
      });

  m.def(
      "fail_in_thread",
      [](int member) {
        nb::gil_scoped_release release;
        Pool::instance().run([&](Team& team) {
          if (team.id == member) throw std::runtime_error("a member of the team failed");
          team.barrier();
        });
      },
      "member"_a, "Raise in one thread of the pool (for the test that errors reach Python and nothing hangs).");
  m.def(
      "hold_pool",
      [](double seconds) {
        static std::atomic<int> jobs{0};
        int most = 0, members = 0;
        auto work = [&](Team& team) {
          team.barrier();
          if (team.id != 0) return;
          members = team.size;
          jobs++;
          const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
          do {
            most = std::max(most, jobs.load());
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          } while (std::chrono::steady_clock::now() < end);
          jobs--;
        };
        {
          nb::gil_scoped_release release;
          Pool::instance().run(work);
        }
        return nb::make_tuple(most, members);
      },
      "seconds"_a, "Keep the pool busy; (the most jobs that ran at once meanwhile, members of this one's team), for the tests.");
}

}  // namespace shortlist
