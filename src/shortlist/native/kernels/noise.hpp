// Gumbel noise from a counter; engine/noise.py is the definition.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace shortlist {

// Noise is between these: engine/noise.py says why.
constexpr double kMinNoise = -2.86, kMaxNoise = 17.33;

inline uint64_t mix64(uint64_t z) {
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

class GumbelNoise {
 public:
  GumbelNoise(uint64_t seed, uint64_t position) : start_(mix64(mix64(seed + kGolden) + kGolden * (position + 1))) {}
  float operator()(uint64_t row) const { return of(bits(row)); }

  uint32_t bits(uint64_t row) const { return static_cast<uint32_t>(mix64(start_ + kGolden * (row + 1)) >> 40); }
  static float of(uint32_t bits) { return static_cast<float>(-std::log(-std::log((static_cast<double>(bits) + 0.5) * 0x1p-24))); }

 private:
  static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;
  uint64_t start_;
};

// Which bits give at least some noise: most rows are ruled out by one comparison of integers, without a logarithm.
class NoiseFilter {
 public:
  NoiseFilter() {
    // Four bits below the exact threshold: far more than the rounding of of() is worth, for any noise.
    for (int i = 0; i < kSteps; i++) least_[i] = static_cast<uint32_t>(std::max(0.0, 0x1p24 * std::exp(-std::exp(-i / kPerUnit)) - 4.0));
  }
  // Noise of smaller bits is certainly below `need`; kNever where all is.
  uint32_t least(double need) const {
    if (!(need > 0)) return 0;
    const double step = need * kPerUnit;
    return step < kSteps ? least_[static_cast<int>(step)] : kNever;
  }
  static constexpr uint32_t kNever = 1u << 24;

 private:
  static constexpr double kPerUnit = 8;
  static constexpr int kSteps = 140;  // 17.5: no noise is greater
  uint32_t least_[kSteps];
};

}  // namespace shortlist
