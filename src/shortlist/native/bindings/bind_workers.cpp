// The pool of threads in the Python module: how many threads a call runs on, and whose.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <thread>

#include "bindings/bind_arrays.hpp"
#include "pool/threads.hpp"

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
            new (self) Workers{threads,
                {reinterpret_cast<void (*)(void (*)(void*), void*, unsigned, unsigned)>(parallel), reinterpret_cast<int (*)()>(team_size)}};
          },
          "threads"_a, "parallel"_a = 0, "team_size"_a = 0,
          "0 threads: as outside. With the addresses of an OpenMP runtime's GOMP_parallel and omp_get_num_threads, on its threads; in a "
          "forked process, "
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
        auto work = [&](Team& team) {
          if (team.id == member) throw std::runtime_error("a member of the team failed");
          team.barrier();
        };
        for (int i = 0; i < 1000; i++) {  // a busy machine may have left this member out
          Pool::instance().run(work);
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
      },
      "member"_a, "Raise in one thread of the pool (for the test that errors reach Python and nothing hangs).");
  m.def(
      "hold_pool",
      [](double seconds, int member, bool at_barrier) {
        static std::atomic<int> jobs{0};
        int most = 0, members = 0;
        auto work = [&](Team& team) {
          if (team.id == member || team.size == 1) {
            jobs++;
            const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
            do {
              most = std::max(most, jobs.load());
              std::this_thread::sleep_for(std::chrono::milliseconds(1));
            } while (std::chrono::steady_clock::now() < end);
            jobs--;
          }
          if (at_barrier) team.barrier();
        };
        {
          nb::gil_scoped_release release;
          Pool::instance().run([&](int count) { members = count; }, work);
        }
        return nb::make_tuple(most, members);
      },
      "seconds"_a, "member"_a = 0, "at_barrier"_a = false,
      "One member sleeps while the others wait for it; (the most jobs that ran at once meanwhile, members that the team might have), for "
      "the tests.");

  nb::class_<Crowd>(m, "Crowd", "Which teams are made smaller, for the tests; times in milliseconds.")
      .def(nb::init<>())
      .def("admitted", [](Crowd& crowd, int wanted, int64_t now) {
        return crowd.admitted(wanted, Crowd::Clock::time_point(std::chrono::milliseconds(now)));
      }, "wanted"_a, "now"_a)
      .def("report", [](Crowd& crowd, int size, int held_up, int64_t now) {
        crowd.report(size, held_up, Crowd::Clock::time_point(std::chrono::milliseconds(now)));
      },
           "size"_a, "held_up"_a, "now"_a);
}

}  // namespace shortlist
