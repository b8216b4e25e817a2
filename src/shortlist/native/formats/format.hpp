// How packed weights decode: one record per format. Kernels are templated over the number of a record in kFormats.
//
// A quantized weight is scale * (code - offset), scale * code + minimum, or scale * table[code]; `group` columns share a scale.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace shortlist {

constexpr int kBlock = 64;         // columns are padded to this
constexpr int kSuperBlock = 256;   // columns that share the float16 by which their scales are multiplied
constexpr int kTileRows = 8;

enum class Kind : uint8_t { F32, F16, BF16, Quantized };

enum class Scale : uint8_t {
  F16,   // a float16 per group
  E8M0,  // a power of two per group, 2^(e - 128): half of what OCP's E8M0 says, because tables hold twice the values
  Sub8,  // a signed byte per group, times a float16 per 256 columns
  Sub4,  // 4 bits per group, times a float16 per 256 columns; those of minima lie in the same bytes
};

struct Format {
  uint8_t id = 0;  // its place in kFormats
  const char* label = "f32";
  Kind kind = Kind::F32;
  uint8_t bits = 32;      // of a weight
  uint8_t group = 0;      // columns per scale
  bool minimum = false;   // value = scale * code + minimum
  Scale scale = Scale::F16;
  const int8_t* table = nullptr;  // 16 values of the codes

  std::string name() const { return label; }
  constexpr bool looked_up() const { return table != nullptr; }
  constexpr bool quantized() const { return kind == Kind::Quantized; }
  constexpr bool sub_scales() const { return scale == Scale::Sub8 || scale == Scale::Sub4; }
  // What is subtracted from a code; nothing from those of minima and tables.
  constexpr int offset() const { return minimum || looked_up() ? 0 : 1 << (bits - 1); }
  // Codes lie as fields of 4 or 2 bits, and planes of one bit each for the rest.
  constexpr int low_bits() const { return bits >= 4 ? 4 : 2; }
  constexpr int planes() const { return bits == 8 ? 0 : bits - low_bits(); }
  // Scales come in spans of so many columns: `halves` float16 numbers (and as many of minima), then `bytes` bytes.
  constexpr int span() const { return sub_scales() ? kSuperBlock : kBlock; }
  constexpr int halves() const { return !group || scale == Scale::E8M0 ? 0 : sub_scales() ? 1 : kBlock / group; }
  constexpr int bytes() const { return !group || scale == Scale::F16 ? 0 : span() / group; }
  constexpr size_t scale_bytes() const { return static_cast<size_t>(halves()) * (minimum ? 4 : 2) + static_cast<size_t>(bytes()); }
};

// Values of the codes of IQ4_NL and IQ4_XS, and twice those of MXFP4's e2m1.
inline constexpr int8_t kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int8_t kE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Numbers of the formats. A new one is a line here and a record below; formats of kFloats come first.
enum FormatId : uint8_t { kF32, kF16, kBF16, kFloats, kQ8 = kFloats, kQ4, kQ4m, kQ5, kQ5m, kQ6, kTernary, kIq4, kIq4Sub, kMxfp4, kQ3Sub,
    kQ2Sub, kFormatCount };

inline constexpr Format kFormats[] = {
    {kF32, "f32", Kind::F32, 32},
    {kF16, "f16", Kind::F16, 16},
    {kBF16, "bf16", Kind::BF16, 16},
    {kQ8, "q8", Kind::Quantized, 8, 32},
    {kQ4, "q4", Kind::Quantized, 4, 32},
    {kQ4m, "q4m", Kind::Quantized, 4, 32, true},
    {kQ5, "q5", Kind::Quantized, 5, 32},
    {kQ5m, "q5m", Kind::Quantized, 5, 32, true},
    {kQ6, "q6-16", Kind::Quantized, 6, 16},
    {kTernary, "q2", Kind::Quantized, 2, 32},
    {kIq4, "iq4", Kind::Quantized, 4, 32, false, Scale::F16, kNonLinear},
    {kIq4Sub, "iq4-sub", Kind::Quantized, 4, 32, false, Scale::Sub8, kNonLinear},
    {kMxfp4, "mxfp4", Kind::Quantized, 4, 32, false, Scale::E8M0, kE2M1},
    {kQ3Sub, "q3-sub16", Kind::Quantized, 3, 16, false, Scale::Sub8},
    {kQ2Sub, "q2m-sub16", Kind::Quantized, 2, 16, true, Scale::Sub4},
};

constexpr bool formats_in_order() {
  for (int id = 0; id < kFormatCount; id++)
    if (kFormats[id].id != id) return false;
  return sizeof kFormats / sizeof kFormats[0] == kFormatCount;
}
static_assert(formats_in_order(), "a format's number is its place in the table");

}  // namespace shortlist
