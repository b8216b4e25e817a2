#include "formats/layout.hpp"

#include <cstring>

namespace shortlist {

static uint32_t read32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, 4);
  return v;
}

// Gathers one bit of each of 8 bytes into one: the multiplier sends byte j's bit to position 56 + j.
static uint8_t gather(const uint8_t* codes, int bit) {
  uint64_t eight;
  std::memcpy(&eight, codes, 8);
  return static_cast<uint8_t>((eight >> bit & 0x0101010101010101ull) * 0x0102040810204080ull >> 56);
}

void write_row(const RowsView& v, int64_t r, const RowBuffer& from) {
  const Format& f = v.format;
  uint8_t* row = const_cast<uint8_t*>(v.row(r));
  auto nibbles = [&](uint8_t* to, int shift) {
    for (int b = 0; b < v.padded / kBlock; b++) {
      const uint8_t* c = from.codes.data() + b * kBlock;
      for (int j = 0; j < 32; j++) to[b * 32 + j] = static_cast<uint8_t>((c[j] >> shift & 15) | (c[j + 32] >> shift & 15) << 4);
    }
  };
  if (f.low_bits() == 2)
    for (int i = 0; i < v.padded / 4; i++) {
      const uint8_t* c = from.codes.data() + i / 16 * kBlock + i % 16;
      row[i] = static_cast<uint8_t>((c[0] & 3) | (c[16] & 3) << 2 | (c[32] & 3) << 4 | (c[48] & 3) << 6);
    }
  else
    nibbles(row, f.bits == 8 ? 4 : 0);
  if (f.bits == 8) nibbles(const_cast<uint8_t*>(v.lower(r)), 0);
  for (int plane = 0; plane < f.planes(); plane++) {
    uint8_t* bits = row + v.low_bytes() + static_cast<size_t>(plane) * v.padded / 8;
    for (int i = 0; i < v.padded / 8; i++) bits[i] = gather(from.codes.data() + i * 8, f.low_bits() + plane);
  }
  uint8_t* to = row + v.planes_bytes();
  const size_t halves = static_cast<size_t>(v.halves()) * 2;
  std::memcpy(to, from.scales.data(), halves);
  if (f.minimum) std::memcpy(to + halves, from.minima.data(), halves);
  std::memcpy(to + halves * (f.minimum ? 2 : 1), from.bytes.data(), static_cast<size_t>(v.padded / f.span() * f.bytes()));
}

// The codes of 32 columns of a row: four columns, a word, at a time, 32 bytes apart.
static void write_slab(const Format& f, const uint8_t* from, uint8_t* to) {
  uint32_t codes[8];
  for (int k = 0; k < 8; k++) codes[k] = read32(from + k * 4);
  auto put = [&](int step, uint32_t word) { std::memcpy(to + step * 32, &word, 4); };
  if (f.bits == 8) {
    for (int k = 0; k < 8; k++) put(k, codes[k] ^ 0x80808080u);
    return;
  }
  // Fields of so many bits, `first` and up of each code, side by side in a byte: as many steps to a register as fit.
  auto fields = [&](int at, int first, int bits) {
    const int steps = 8 / bits;
    const uint32_t mask = 0x01010101u * ((1u << bits) - 1);
    for (int p = 0; p < bits; p++) {
      uint32_t word = 0;
      for (int i = 0; i < steps; i++) word |= (codes[p * steps + i] >> first & mask) << (bits * i);
      put(at + p, word);
    }
  };
  if (f.low_bits() == 2)
    fields(0, 0, 2);
  else
    for (int k = 0; k < 4; k++) put(k, (codes[k] & 0x0f0f0f0fu) | (codes[k + 4] & 0x0f0f0f0fu) << 4);
  if (f.planes()) fields(f.low_bits(), f.low_bits(), f.planes());
}

void write_lane(const RowsView& v, int64_t r, const RowBuffer& from) {
  const Format& f = v.format;
  const size_t lane = static_cast<size_t>(r % kTileRows), halves = static_cast<size_t>(f.halves()), bytes = static_cast<size_t>(f.bytes());
  for (size_t s = 0; s < static_cast<size_t>(v.padded / f.span()); s++) {
    uint8_t* span = const_cast<uint8_t*>(v.tile(r)) + s * v.span_bytes();
    uint8_t* to = span;
    auto numbers = [&](const uint16_t* values) {
      for (size_t i = 0; i < halves; i++, to += kTileRows * 2) std::memcpy(to + lane * 2, values + s * halves + i, 2);
    };
    numbers(from.scales.data());
    if (f.minimum) numbers(from.minima.data());
    for (size_t i = 0; i < bytes; i++) to[i * kTileRows + lane] = from.bytes[s * bytes + i];
    for (int slab = 0; slab < f.span() / 32; slab++)
      write_slab(f, from.codes.data() + static_cast<int>(s) * f.span() + slab * 32,
                 span + v.header_bytes() + static_cast<size_t>(slab) * v.slab_bytes() + lane * 4);
  }
}

}  // namespace shortlist
