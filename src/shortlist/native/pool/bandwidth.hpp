// The read bandwidth of the machine, the ceiling beside every decode speed.
#pragma once
#include <cstddef>

namespace shortlist {
// Gigabytes per second at which the pool's threads sum `bytes` of memory with wide loads; the best of `runs`.
double read_bandwidth(size_t bytes, int runs);
}  // namespace shortlist
