// Packed matrices: the formats, where a row's parts lie, and the quantized form of the vector they are multiplied with.
//
// A format (format.hpp) says how weights decode. By row, unsigned codes are split into planes:
//
//   bits   primary plane, per row                                   secondary plane, per row
//   2, 3   fields of 2 bits (| bit 2) | scales                      -
//   4      low nibbles | scales                                     -
//   5, 6   low nibbles | bit 4 (| bit 5) | scales                   -
//   8      HIGH nibbles | scales                                    low nibbles
//
// Scales are the float16 numbers of the whole row, those of its minima, then bytes. One row's primary part is one contiguous
// read. The planes of 8-bit rows are apart so that a row can be scored from its upper half alone (see heads.cpp). Columns are
// padded to blocks of 64; in a block of 32 nibble bytes, byte j holds column j in its low half and column j + 32 in its high
// half; in a block of 16 bytes of 2-bit fields, byte j holds columns j, j + 16, j + 32 and j + 48. Bit planes hold column j in bit j.
//
// A quantized matrix that is always read whole can be tiled instead: 8 rows side by side, one to a lane, which takes half
// the instructions (no sums over lanes, no scale per row). A tile is a sequence of spans (Format::span), of 64 columns or 256:
//
//   scales, float16 [halves][8] | minima, likewise | bytes of scales [bytes][8] | codes of columns 0-31 | codes of columns 32-63 | ...
//
// The codes of 32 columns (a slab) are 8 steps of 32 bytes, 4 columns of each row; byte 4 r + i of step k is row r, column
// 4 k + i. Steps k and k + 4 share the nibbles of bytes 32 k. Bit 4 of 5-bit codes follows in one register, step k in bit k
// of each byte; bits 4 and 5 of 6-bit codes in two, of four steps each. 8-bit codes are whole, as signed bytes. 2-bit codes lie as
// bits 4 and 5 of 6-bit ones do, without the nibbles, and bit 2 of 3-bit codes follows them as bit 4 does nibbles.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>

#include "formats/format.hpp"
#include "formats/types.hpp"
#include "pool/memory.hpp"

namespace shortlist {

constexpr int kMaxColumns = 1 << 17;  // bounds the per-row scratch of the kernels

struct RowsView {
  Format format;
  int64_t rows = 0;
  bool tiled = false;
  int cols = 0;    // as the model sees it
  int padded = 0;  // multiple of kBlock
  const uint8_t* primary = nullptr;
  const uint8_t* secondary = nullptr;
  size_t primary_stride = 0, secondary_stride = 0;  // from one row to the next
  size_t primary_bytes = 0, secondary_bytes = 0;    // of one row; less than the stride where other matrices lie between (neurons.hpp)

  int groups() const { return padded / format.group; }
  size_t low_bytes() const { return static_cast<size_t>(padded) * format.low_bits() / 8; }  // of 8-bit rows: per plane
  size_t planes_bytes() const { return low_bytes() + static_cast<size_t>(format.planes()) * padded / 8; }
  size_t scale_bytes() const { return static_cast<size_t>(padded / format.span()) * format.scale_bytes(); }
  const uint8_t* row(int64_t r) const { return primary + static_cast<size_t>(r) * primary_stride; }
  const uint8_t* lower(int64_t r) const { return secondary + static_cast<size_t>(r) * secondary_stride; }
  int halves() const { return padded / format.span() * format.halves(); }  // float16 numbers of a row, without those of minima
  const uint16_t* scales(int64_t r) const { return reinterpret_cast<const uint16_t*>(row(r) + planes_bytes()); }
  const uint16_t* minima(int64_t r) const { return scales(r) + halves(); }
  size_t row_bytes() const { return primary_bytes + secondary_bytes; }

  // The first span of the tile that row r is in, and where things lie in a span of a tile.
  const uint8_t* tile(int64_t r) const { return row(r / kTileRows * kTileRows); }
  size_t header_bytes() const { return format.scale_bytes() * kTileRows; }
  size_t slab_bytes() const { return static_cast<size_t>(32 * format.bits); }
  size_t span_bytes() const { return header_bytes() + static_cast<size_t>(format.span() / 32) * slab_bytes(); }

  void set_strides() {
    const size_t columns = static_cast<size_t>(padded), scales = format.quantized() ? scale_bytes() : 0;
    const bool split = format.bits == 8 && !tiled;
    primary_stride = primary_bytes = columns * format.bits / (split ? 16 : 8) + scales;
    secondary_stride = secondary_bytes = split ? columns / 2 : 0;
  }
};

// Vectors to multiply with, one per token, as floats and in int8 groups of 32: x = d * q, d = max|x| / 127.
// Pointers are to the first token; strides are `padded` floats or codes, and padded / 32 (or / 16) group values.
struct Batch {
  int tokens = 0, padded = 0;
  const float* x = nullptr;
  const int8_t* q = nullptr;
  const float* d32 = nullptr;   // scale per group of 32
  const float* d16 = nullptr;   // the same scales, one per 16 columns
  const float* s32 = nullptr;   // d * sum(q) per group of 32: what an offset or a minimum multiplies
  const float* s16 = nullptr;
  const float* l1 = nullptr;    // d * sum|q| per group of 32: what the lower plane can add at most, per unit of scale
  const float* n32 = nullptr;   // sum(q) per group of 32: a whole number, so that offsets of codes are taken off without rounding

  Batch token(int t) const {
    Batch one = from(t);
    one.tokens = 1;
    return one;
  }
  // Without the first t tokens.
  Batch from(int t) const {
    int g = padded / 32;
    return {tokens - t, padded, x + static_cast<size_t>(t) * padded, q + static_cast<size_t>(t) * padded, d32 + static_cast<size_t>(t) * g,
            d16 + static_cast<size_t>(t) * 2 * g, s32 + static_cast<size_t>(t) * g, s16 + static_cast<size_t>(t) * 2 * g,
            l1 + static_cast<size_t>(t) * g, n32 + static_cast<size_t>(t) * g};
  }
  Batch slice(int first, int count) const {
    Batch part = token(first);
    part.tokens = count;
    return part;
  }
};

// Thrown where a weight or a result is not a finite number.
struct NotFinite : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Rows {
 public:
  RowsView view;
  Allocation primary, secondary;
  int threads = 0;     // that products with it run on; 0: those of the caller
  std::string source;  // the file that it is from, for messages
  size_t bytes() const { return static_cast<size_t>(view.rows) * view.row_bytes(); }
  // Throws NotFinite, which names the first row with a weight that is not finite; of matrices by row.
  void check_finite() const;
};

// Whether all of n values are finite numbers.
bool all_finite(const float* values, int64_t n);

// Packs `rows` x `cols` weights of a GGUF or safetensors type, in as many pieces as the caller likes. `target` is "" (keep
// the source's quantization), "q8" or "q4" (quantize a float source). `tiled` asks for tiles, which floats do not have.
class Packer {
 public:
  // Throws std::invalid_argument on an unknown type or sizes that do not fit.
  Packer(const std::string& type, int64_t rows, int64_t cols, const std::string& target, bool tiled, Arena& arena);
  // The next rows: `bytes` must be a whole number of them. Throws std::invalid_argument otherwise. One call at a time.
  void add(const uint8_t* data, size_t bytes);
  // Throws std::invalid_argument while rows are missing.
  Rows finish();

 private:
  std::mutex busy_;
  const TensorType& source_;
  Rows rows_;
  size_t row_bytes_;
  int64_t done_ = 0;
};

// Packs int8 codes with one float16 scale per 32 columns (what estimators store).
Rows pack_int8(const int8_t* codes, const uint16_t* scales, int64_t rows, int64_t cols, bool tiled, Arena& arena);

// Writes the float values of one row, `cols` of them.
void unpack_row(const RowsView& view, int64_t row, float* out);

}  // namespace shortlist
