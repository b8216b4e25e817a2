// From the bytes of a row to codes and scales: blocks of its type, or floats that are quantized.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/half.hpp"
#include "formats/layout.hpp"

namespace shortlist {

// Symmetric int8: scale = max|w| / 127 rounded to float16 first, so that codes fit the scale that is stored.
// A group with a weight that is not a number is none either: its codes could not say so.
static bool spoil(const float* w, Decoded to) {
  if (all_finite(w, 32)) return false;
  to.scales[0] = to.minima[0] = 0x7e00;  // NaN
  std::fill_n(to.codes, 32, uint8_t{0});
  return true;
}

static void quantize8(const float* w, Decoded to) {
  if (spoil(w, to)) return;
  float top = 0.0f;
  for (int i = 0; i < 32; i++) top = std::max(top, std::fabs(w[i]));
  to.scales[0] = float_to_half(top / 127.0f);
  const float scale = half_to_float(to.scales[0]), inverse = scale > 0 ? 1.0f / scale : 0.0f;
  for (int i = 0; i < 32; i++) {
    const float code = std::nearbyint(w[i] * inverse);
    to.codes[i] = static_cast<uint8_t>(static_cast<int>(std::clamp(code, -127.0f, 127.0f)) + 128);
  }
}
// Scale and minimum: 16 levels from the smallest to the largest weight of the group.
static void quantize4(const float* w, Decoded to) {
  if (spoil(w, to)) return;
  const auto [low, high] = std::minmax_element(w, w + 32);
  to.minima[0] = float_to_half(*low);
  const float base = half_to_float(to.minima[0]);
  to.scales[0] = float_to_half((*high - base) / 15.0f);
  const float scale = half_to_float(to.scales[0]), inverse = scale > 0 ? 1.0f / scale : 0.0f;
  for (int i = 0; i < 32; i++) to.codes[i] = static_cast<uint8_t>(std::clamp(std::nearbyint((w[i] - base) * inverse), 0.0f, 15.0f));
}

static void floats_of_row(Kind kind, const uint8_t* row, int cols, float* out) {
  for (int i = 0; i < cols; i++) {
    if (kind == Kind::F32)
      std::memcpy(out + i, row + i * 4, 4);
    else
      out[i] = kind == Kind::F16 ? half_to_float(read16(row + i * 2)) : bfloat_to_float(read16(row + i * 2));
  }
}

void decode_row(const TensorType& source, const Format& format, const uint8_t* from, int cols, RowBuffer& buffer) {
  if (source.decode) {
    for (int at = 0; at < cols; at += source.weights, from += source.bytes) source.decode(from, buffer.from(at, format));
    return;
  }
  floats_of_row(source.format().kind, from, cols, buffer.floats.data());
  for (int at = 0; at < static_cast<int>(buffer.floats.size()); at += 32)
    (format.bits == 8 ? quantize8 : quantize4)(buffer.floats.data() + at, buffer.from(at, format));
}

}  // namespace shortlist
