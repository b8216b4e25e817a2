// Gumbel noise from a counter; engine/noise.py is the definition.
#pragma once
#include <cmath>
#include <cstdint>

namespace shortlist {

inline uint64_t mix64(uint64_t z) {
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

class GumbelNoise {
 public:
  GumbelNoise(uint64_t seed, uint64_t position) : start_(mix64(mix64(seed + kGolden) + kGolden * (position + 1))) {}
  float operator()(uint64_t row) const {
    const uint64_t bits = mix64(start_ + kGolden * (row + 1));
    const double uniform = (static_cast<double>(bits >> 40) + 0.5) * 0x1p-24;
    return static_cast<float>(-std::log(-std::log(uniform)));
  }

 private:
  static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;
  uint64_t start_;
};

}  // namespace shortlist
