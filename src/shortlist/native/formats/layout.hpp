// One decoded row, and how it is laid out among the others (rows.hpp says where things lie).
#pragma once
#include <vector>

#include "formats/rows.hpp"

namespace shortlist {

// Codes, and the parts of scales as a format has them.
struct RowBuffer {
  std::vector<uint8_t> codes, bytes;
  std::vector<uint16_t> scales, minima;
  std::vector<float> floats;
  explicit RowBuffer(int padded)
      : codes(static_cast<size_t>(padded)), bytes(static_cast<size_t>(padded) / 16), scales(static_cast<size_t>(padded) / 16),
        minima(static_cast<size_t>(padded) / 16), floats(static_cast<size_t>(padded)) {}

  // Where column `at` goes, the first of a span or of a group with a float16 of its own.
  Decoded from(int at, const Format& f) {
    const int halves = at * f.halves() / f.span(), group = at / f.group;
    return {codes.data() + at, scales.data() + halves, minima.data() + halves, bytes.data() + group};
  }
};

// Decodes one row of the source, of `format.kind` Quantized; floats are quantized.
void decode_row(const TensorType& source, const Format& format, const uint8_t* from, int cols, RowBuffer& buffer);

// Row r in its planes, or in its lane of a tile.
void write_row(const RowsView& v, int64_t r, const RowBuffer& from);
void write_lane(const RowsView& v, int64_t r, const RowBuffer& from);

}  // namespace shortlist
