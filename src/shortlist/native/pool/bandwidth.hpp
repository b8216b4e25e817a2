// What the machine can read: the ceiling that every decode speed is shown against.
#pragma once
#include <cstddef>

namespace shortlist {
// Gigabytes per second that the pool's threads reach summing `bytes` of memory with wide loads; the best of `runs`.
double read_bandwidth(size_t bytes, int runs);
}  // namespace shortlist
