// Packing: from the block formats of GGUF (and plain floats) to planes, one thread per share of the rows.
#include "formats/rows.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "formats/half.hpp"
#include "kernels/kernels.hpp"
#include "pool/threads.hpp"

namespace shortlist {

// One row, decoded: unsigned codes with a scale (and minimum) per group.
struct Decoded {
  uint8_t* codes;
  uint16_t* scales;
  uint16_t* minima;
};

struct Source {
  const char* name;
  int block, bytes;  // columns and bytes of one block
  Format format;
  void (*decode)(const uint8_t*, Decoded);
};

namespace {

uint16_t read16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, 2);
  return v;
}
float read_half(const uint8_t* p) { return half_to_float(read16(p)); }

// ---- source blocks. Each decodes one block of its type; layouts as in ggml's quantization code. -------------------

void q4_0(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  for (int i = 0; i < 16; i++) to.codes[i] = b[2 + i] & 15, to.codes[i + 16] = b[2 + i] >> 4;
}
void q4_1(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  to.minima[0] = read16(b + 2);
  for (int i = 0; i < 16; i++) to.codes[i] = b[4 + i] & 15, to.codes[i + 16] = b[4 + i] >> 4;
}
void five_bits(const uint8_t* high, const uint8_t* low, uint8_t* codes) {
  uint32_t bits;
  std::memcpy(&bits, high, 4);
  for (int i = 0; i < 16; i++) {
    codes[i] = static_cast<uint8_t>((low[i] & 15) | (bits >> i & 1) << 4);
    codes[i + 16] = static_cast<uint8_t>(low[i] >> 4 | (bits >> (i + 16) & 1) << 4);
  }
}
void q5_0(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  five_bits(b + 2, b + 6, to.codes);
}
void q5_1(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  to.minima[0] = read16(b + 2);
  five_bits(b + 4, b + 8, to.codes);
}
void q8_0(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  for (int i = 0; i < 32; i++) to.codes[i] = b[2 + i] ^ 0x80;
}

// The 6-bit scale and minimum of group j (of 8) in a K-block's 12 bytes.
void k_scale(const uint8_t* s, int j, int* scale, int* minimum) {
  if (j < 4) {
    *scale = s[j] & 63;
    *minimum = s[j + 4] & 63;
  } else {
    *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    *minimum = s[j + 4] >> 4 | (s[j] >> 6) << 4;
  }
}
// Weights of -1, 0 and 1 times a scale, four to a byte as code + 1: not of GGUF, but of converted checkpoints.
void ternary(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  for (int i = 0; i < 32; i++) to.codes[i] = static_cast<uint8_t>((b[2 + i / 4] >> (i % 4 * 2) & 3) + 1);  // offset 2
}
void k_scales(const uint8_t* b, Decoded to) {
  const float d = read_half(b), dmin = read_half(b + 2);
  for (int j = 0; j < 8; j++) {
    int scale, minimum;
    k_scale(b + 4, j, &scale, &minimum);
    to.scales[j] = float_to_half(d * static_cast<float>(scale));
    to.minima[j] = float_to_half(-dmin * static_cast<float>(minimum));
  }
}
void q4_k(const uint8_t* b, Decoded to) {
  k_scales(b, to);
  for (int half = 0; half < 4; half++)
    for (int i = 0; i < 32; i++) {
      const uint8_t two = b[16 + half * 32 + i];
      to.codes[half * 64 + i] = two & 15;
      to.codes[half * 64 + 32 + i] = two >> 4;
    }
}
void q5_k(const uint8_t* b, Decoded to) {
  k_scales(b, to);
  const uint8_t *high = b + 16, *low = b + 48;
  for (int half = 0; half < 4; half++)
    for (int i = 0; i < 32; i++) {
      const uint8_t two = low[half * 32 + i];
      to.codes[half * 64 + i] = static_cast<uint8_t>((two & 15) | (high[i] >> (2 * half) & 1) << 4);
      to.codes[half * 64 + 32 + i] = static_cast<uint8_t>(two >> 4 | (high[i] >> (2 * half + 1) & 1) << 4);
    }
}
void q6_k(const uint8_t* b, Decoded to) {
  const uint8_t *low = b, *high = b + 128;
  const float d = read_half(b + 208);
  for (int j = 0; j < 16; j++) to.scales[j] = float_to_half(d * static_cast<float>(static_cast<int8_t>(b[192 + j])));
  for (int half = 0; half < 2; half++, low += 64, high += 32)
    for (int i = 0; i < 32; i++) {
      uint8_t* codes = to.codes + half * 128 + i;
      codes[0] = static_cast<uint8_t>((low[i] & 15) | (high[i] & 3) << 4);
      codes[32] = static_cast<uint8_t>((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
      codes[64] = static_cast<uint8_t>(low[i] >> 4 | (high[i] >> 4 & 3) << 4);
      codes[96] = static_cast<uint8_t>(low[i + 32] >> 4 | (high[i] >> 6 & 3) << 4);
    }
}

constexpr Format quantized(int bits, int group, bool minimum) {
  return {Kind::Quantized, static_cast<uint8_t>(bits), static_cast<uint8_t>(group), minimum};
}
const Source kSources[] = {
    {"F32", 1, 4, {Kind::F32, 32, 0, false}, nullptr},   {"F16", 1, 2, {Kind::F16, 16, 0, false}, nullptr},
    {"BF16", 1, 2, {Kind::BF16, 16, 0, false}, nullptr}, {"Q4_0", 32, 18, quantized(4, 32, false), q4_0},
    {"Q4_1", 32, 20, quantized(4, 32, true), q4_1},      {"Q5_0", 32, 22, quantized(5, 32, false), q5_0},
    {"Q5_1", 32, 24, quantized(5, 32, true), q5_1},      {"Q8_0", 32, 34, quantized(8, 32, false), q8_0},
    {"Q4_K", 256, 144, quantized(4, 32, true), q4_k},    {"Q5_K", 256, 176, quantized(5, 32, true), q5_k},
    {"Q6_K", 256, 210, quantized(6, 16, false), q6_k},   {"TERNARY", 32, 10, quantized(2, 32, false), ternary},
};

const Source& find_source(const std::string& type) {
  for (const Source& s : kSources)
    if (type == s.name) return s;
  throw std::invalid_argument("unknown tensor type '" + type + "'");
}

// ---- float sources to int8 or 4 bits ------------------------------------------------------------------------------

// Symmetric int8: scale = max|w| / 127 rounded to float16 first, so that codes fit the scale that is stored.
// A group with a weight that is not a number is none either: its codes could not say so.
bool spoil(const float* w, Decoded to) {
  if (all_finite(w, 32)) return false;
  to.scales[0] = to.minima[0] = 0x7e00;  // NaN
  std::fill_n(to.codes, 32, uint8_t{0});
  return true;
}

void quantize8(const float* w, Decoded to) {
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
void quantize4(const float* w, Decoded to) {
  if (spoil(w, to)) return;
  const auto [low, high] = std::minmax_element(w, w + 32);
  to.minima[0] = float_to_half(*low);
  const float base = half_to_float(to.minima[0]);
  to.scales[0] = float_to_half((*high - base) / 15.0f);
  const float scale = half_to_float(to.scales[0]), inverse = scale > 0 ? 1.0f / scale : 0.0f;
  for (int i = 0; i < 32; i++) to.codes[i] = static_cast<uint8_t>(std::clamp(std::nearbyint((w[i] - base) * inverse), 0.0f, 15.0f));
}

// ---- planes -------------------------------------------------------------------------------------------------------

struct RowBuffer {
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales, minima;
  std::vector<float> floats;
  explicit RowBuffer(int padded)
      : codes(static_cast<size_t>(padded)), scales(static_cast<size_t>(padded) / 16), minima(static_cast<size_t>(padded) / 16),
        floats(static_cast<size_t>(padded)) {}
};

void write_row(const RowsView& v, int64_t r, const RowBuffer& from) {
  uint8_t* row = const_cast<uint8_t*>(v.row(r));
  auto nibbles = [&](uint8_t* to, int shift) {
    for (int b = 0; b < v.padded / kBlock; b++) {
      const uint8_t* c = from.codes.data() + b * kBlock;
      for (int j = 0; j < 32; j++) to[b * 32 + j] = static_cast<uint8_t>((c[j] >> shift & 15) | (c[j + 32] >> shift & 15) << 4);
    }
  };
  nibbles(row, v.format.bits == 8 ? 4 : 0);
  if (v.format.bits == 8) nibbles(const_cast<uint8_t*>(v.lower(r)), 0);
  for (int plane = 0; plane < v.extra_planes(); plane++) {
    uint8_t* bits = row + v.padded / 2 + static_cast<size_t>(plane) * v.padded / 8;
    for (int i = 0; i < v.padded / 8; i++) {
      uint64_t eight;
      std::memcpy(&eight, from.codes.data() + i * 8, 8);
      // Gathers one bit of each byte into the top byte: the multiplier sends byte j's bit to position 56 + j.
      bits[i] = static_cast<uint8_t>((eight >> (4 + plane) & 0x0101010101010101ull) * 0x0102040810204080ull >> 56);
    }
  }
  const size_t groups = static_cast<size_t>(v.groups());
  std::memcpy(const_cast<uint16_t*>(v.scales(r)), from.scales.data(), groups * 2);
  if (v.format.minimum) std::memcpy(const_cast<uint16_t*>(v.minima(r)), from.minima.data(), groups * 2);
}

uint32_t read32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, 4);
  return v;
}

// Row r into its lane of a tile: four columns, a word, at a time.
void write_lane(const RowsView& v, int64_t r, const RowBuffer& from) {
  const int lane = static_cast<int>(r % kTileRows), per_block = kBlock / v.format.group;
  for (int b = 0; b < v.padded / kBlock; b++) {
    uint8_t* block = const_cast<uint8_t*>(v.tile(r)) + static_cast<size_t>(b) * v.block_bytes();
    uint16_t* scales = reinterpret_cast<uint16_t*>(block) + lane;
    for (int g = 0; g < per_block; g++) {
      scales[g * kTileRows] = from.scales[static_cast<size_t>(b * per_block + g)];
      if (v.format.minimum) scales[(per_block + g) * kTileRows] = from.minima[static_cast<size_t>(b * per_block + g)];
    }
    for (int slab = 0; slab < 2; slab++) {
      uint8_t* to = block + v.header_bytes() + static_cast<size_t>(slab) * v.slab_bytes() + lane * 4;
      uint32_t codes[8];
      for (int k = 0; k < 8; k++) codes[k] = read32(from.codes.data() + b * kBlock + slab * 32 + k * 4);
      auto put = [&](int step, uint32_t word) { std::memcpy(to + step * 32, &word, 4); };
      if (v.format.bits == 8) {
        for (int k = 0; k < 8; k++) put(k, codes[k] ^ 0x80808080u);
        continue;
      }
      if (v.format.bits == 2) {
        for (int p = 0; p < 2; p++) put(p, codes[p * 4] | codes[p * 4 + 1] << 2 | codes[p * 4 + 2] << 4 | codes[p * 4 + 3] << 6);
        continue;
      }
      for (int k = 0; k < 4; k++) put(k, (codes[k] & 0x0f0f0f0fu) | (codes[k + 4] & 0x0f0f0f0fu) << 4);
      const int planes = v.extra_planes();
      for (int p = 0, steps = 8 / std::max(planes, 1); p < planes; p++) {
        uint32_t word = 0;
        for (int i = 0; i < steps; i++) word |= (codes[p * steps + i] >> 4 & (planes == 1 ? 0x01010101u : 0x03030303u)) << (planes * i);
        put(4 + p, word);
      }
    }
  }
}

Rows allocate(Format format, int64_t rows, int64_t cols, bool tiled, Arena& arena) {
  if (rows < 1 || cols < 1 || cols > kMaxColumns - kBlock || rows > (int64_t{1} << 40) / cols)
    throw std::invalid_argument("a matrix of " + std::to_string(rows) + " x " + std::to_string(cols) + " is out of range");
  if (format.bits == 2 && !tiled) throw std::invalid_argument("2-bit matrices are read whole: pack them with tiles");
  Rows out;
  out.view.format = format;
  out.view.rows = rows;
  out.view.tiled = tiled && format.kind == Kind::Quantized;
  out.view.cols = static_cast<int>(cols);
  out.view.padded = static_cast<int>((cols + kBlock - 1) / kBlock * kBlock);
  out.view.set_strides();
  const int64_t stored = out.view.tiled ? (rows + kTileRows - 1) / kTileRows * kTileRows : rows;
  out.primary = arena.take(static_cast<size_t>(stored) * out.view.primary_stride);
  out.view.primary = out.primary.data;
  if (out.view.secondary_stride) {
    out.secondary = arena.take(static_cast<size_t>(rows) * out.view.secondary_stride);
    out.view.secondary = out.secondary.data;
  }
  return out;
}

void floats_of_row(const Source& source, const uint8_t* row, int64_t cols, float* out) {
  for (int64_t i = 0; i < cols; i++) {
    if (source.format.kind == Kind::F32)
      std::memcpy(out + i, row + i * 4, 4);
    else
      out[i] = source.format.kind == Kind::F16 ? read_half(row + i * 2) : bfloat_to_float(read16(row + i * 2));
  }
}

// One row of the source into the planes of row r.
void pack_row(const Source& source, const RowsView& v, int64_t r, const uint8_t* from, RowBuffer& buffer) {
  if (source.format.kind != Kind::Quantized) {
    floats_of_row(source, from, v.cols, buffer.floats.data());
    for (int g = 0; g < v.padded / 32; g++)
      (v.format.bits == 8 ? quantize8 : quantize4)(buffer.floats.data() + g * 32,
                                                   {buffer.codes.data() + g * 32, buffer.scales.data() + g, buffer.minima.data() + g});
  } else {
    const int groups = source.block / v.format.group;
    for (int b = 0; b < v.cols / source.block; b++)
      source.decode(from + static_cast<size_t>(b) * source.bytes,
                    {buffer.codes.data() + b * source.block, buffer.scales.data() + b * groups, buffer.minima.data() + b * groups});
  }
  (v.tiled ? write_lane : write_row)(v, r, buffer);
}

}  // namespace

Packer::Packer(const std::string& type, int64_t rows, int64_t cols, const std::string& target, bool tiled, Arena& arena) : source_(find_source(type)) {
  if (!target.empty() && target != "q8" && target != "q4") throw std::invalid_argument("unknown weight format '" + target + "': q8 or q4");
  Format format = source_.format;
  if (format.kind != Kind::Quantized && target == "q8") format = quantized(8, 32, false);
  if (format.kind != Kind::Quantized && target == "q4") format = quantized(4, 32, true);
  if (cols % source_.block) throw std::invalid_argument(type + " rows of " + std::to_string(cols) + " columns are not whole blocks");
  rows_ = allocate(format, rows, cols, tiled, arena);
  row_bytes_ = static_cast<size_t>(cols / source_.block) * static_cast<size_t>(source_.bytes);
}

void Packer::add(const uint8_t* data, size_t bytes) {
  std::lock_guard lock(busy_);
  const RowsView& v = rows_.view;
  const int64_t count = static_cast<int64_t>(bytes / row_bytes_), first = done_;
  if (bytes % row_bytes_ || count > v.rows - first) throw std::invalid_argument("tensor data has the wrong size");
  Pool::instance().run([&](Team& team) {
    RowBuffer buffer(v.padded);
    const auto share = team.share(count);
    for (int64_t r = share.begin; r < share.end; r++) {
      const uint8_t* from = data + static_cast<size_t>(r) * row_bytes_;
      if (v.format.kind != Kind::Quantized)
        std::memcpy(const_cast<uint8_t*>(v.row(first + r)), from, row_bytes_);
      else
        pack_row(source_, v, first + r, from, buffer);
    }
  });
  done_ += count;
}

Rows Packer::finish() {
  std::lock_guard lock(busy_);
  if (done_ != rows_.view.rows) throw std::invalid_argument("tensor data has the wrong size");
  done_++;  // more than there are, for whoever comes again
  return std::move(rows_);
}

Rows pack_int8(const int8_t* codes, const uint16_t* scales, int64_t rows, int64_t cols, bool tiled, Arena& arena) {
  Rows out = allocate(quantized(8, 32, false), rows, cols, tiled, arena);
  const RowsView& v = out.view;
  const int64_t groups = (cols + 31) / 32;
  Pool::instance().run([&](Team& team) {
    RowBuffer buffer(v.padded);
    const auto share = team.share(rows);
    for (int64_t r = share.begin; r < share.end; r++) {
      for (int64_t i = 0; i < cols; i++) buffer.codes[static_cast<size_t>(i)] = static_cast<uint8_t>(codes[r * cols + i]) ^ 0x80;
      std::copy_n(scales + r * groups, groups, buffer.scales.begin());
      (tiled ? write_lane : write_row)(v, r, buffer);
    }
  });
  return out;
}

// ---- what is not a number -----------------------------------------------------------------------------------------

bool all_finite(const float* values, int64_t n) {
  uint32_t greatest = 0;  // without a branch, so that the compiler makes vectors of it
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits;
    std::memcpy(&bits, values + i, 4);
    greatest = std::max(greatest, bits & 0x7f800000u);
  }
  return greatest != 0x7f800000u;
}

// The same for 16-bit floats whose exponent is at `mask`.
static bool all_finite(const uint16_t* values, int64_t n, int mask) {
  int greatest = 0;
  for (int64_t i = 0; i < n; i++) greatest = std::max(greatest, values[i] & mask);
  return greatest != mask;
}

static bool finite_row(const RowsView& v, int64_t r) {
  constexpr int half = 0x7c00, bfloat = 0x7f80;
  switch (v.format.kind) {
    case Kind::F32:
      return all_finite(reinterpret_cast<const float*>(v.row(r)), v.cols);
    case Kind::F16:
      return all_finite(reinterpret_cast<const uint16_t*>(v.row(r)), v.cols, half);
    case Kind::BF16:
      return all_finite(reinterpret_cast<const uint16_t*>(v.row(r)), v.cols, bfloat);
    default:  // codes are integers
      return all_finite(v.scales(r), v.groups() * (v.format.minimum ? 2 : 1), half);
  }
}

void Rows::check_finite() const {
  if (view.tiled) throw std::invalid_argument("a tiled matrix has no rows to check");
  std::atomic<int64_t> first{view.rows};
  Workers::Scope scope(threads);
  Pool::instance().run([&](Team& team) {
    const auto share = team.share(view.rows);
    for (int64_t r = share.begin; r < share.end; r++)
      if (!finite_row(view, r)) {
        int64_t least = first;
        while (r < least && !first.compare_exchange_weak(least, r)) {
        }
        return;
      }
  });
  if (first < view.rows)
    throw NotFinite((source.empty() ? "the head" : source) + ": row " + std::to_string(first) + " of the head holds weights that are not numbers, so the " +
                    "file is damaged: fetch it again, or convert it again");
}

void unpack_row(const RowsView& view, int64_t row, float* out) {
  std::fill_n(out, view.cols, 0.0f);
  kernels().axpy_row(view, row, 1.0f, out);
}

}  // namespace shortlist
