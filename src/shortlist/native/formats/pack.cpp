// Packing: from tensors of files (and int8 codes) to rows, one thread per share of them.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "formats/layout.hpp"
#include "pool/threads.hpp"

namespace shortlist {

static Rows allocate(const Format& format, int64_t rows, int64_t cols, bool tiled, Arena& arena) {
  if (rows < 1 || cols < 1 || cols > kMaxColumns - kBlock || rows > (int64_t{1} << 40) / cols)
    throw std::invalid_argument("a matrix of " + std::to_string(rows) + " x " + std::to_string(cols) + " is out of range");
  Rows out;
  out.view.format = format;
  out.view.rows = rows;
  out.view.tiled = tiled && format.quantized();
  out.view.cols = static_cast<int>(cols);
  out.view.padded = static_cast<int>((cols + format.span() - 1) / format.span() * format.span());
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

Packer::Packer(const std::string& type, int64_t rows, int64_t cols, const std::string& target, bool tiled, Arena& arena)
    : source_(tensor_type(type)) {
  if (!target.empty() && target != "q8" && target != "q4") throw std::invalid_argument("unknown weight format '" + target + "': q8 or q4");
  const bool keep = target.empty() || source_.format().quantized();
  const Format& format = keep ? source_.format() : kFormats[target == "q8" ? kQ8 : kQ4m];
  if (cols % source_.weights) throw std::invalid_argument(type + " rows of " + std::to_string(cols) + " columns are not whole blocks");
  rows_ = allocate(format, rows, cols, tiled, arena);
  row_bytes_ = static_cast<size_t>(cols / source_.weights) * static_cast<size_t>(source_.bytes);
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
      if (!v.format.quantized()) {
        std::memcpy(const_cast<uint8_t*>(v.row(first + r)), from, row_bytes_);
        continue;
      }
      decode_row(source_, v.format, from, v.cols, buffer);
      (v.tiled ? write_lane : write_row)(v, first + r, buffer);
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
  Rows out = allocate(kFormats[kQ8], rows, cols, tiled, arena);
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

}  // namespace shortlist
