// Types with blocks of 32 weights.
#include <cstring>

#include "formats/half.hpp"
#include "formats/types.hpp"

namespace shortlist {

static void nibbles(const uint8_t* from, uint8_t* codes) {
  for (int i = 0; i < 16; i++) codes[i] = from[i] & 15, codes[i + 16] = from[i] >> 4;
}

static void five_bits(const uint8_t* high, const uint8_t* low, uint8_t* codes) {
  uint32_t bits;
  std::memcpy(&bits, high, 4);
  nibbles(low, codes);
  for (int i = 0; i < 32; i++) codes[i] = static_cast<uint8_t>(codes[i] | (bits >> i & 1) << 4);
}

void decode_q4_0(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  nibbles(b + 2, to.codes);
}
void decode_q4_1(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  to.minima[0] = read16(b + 2);
  nibbles(b + 4, to.codes);
}
void decode_q5_0(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  five_bits(b + 2, b + 6, to.codes);
}
void decode_q5_1(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  to.minima[0] = read16(b + 2);
  five_bits(b + 4, b + 8, to.codes);
}
void decode_q8_0(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  for (int i = 0; i < 32; i++) to.codes[i] = b[2 + i] ^ 0x80;
}

// Weights of -1, 0 and 1 times a scale, four to a byte as code + 1: not of GGUF, but of converted checkpoints.
void decode_ternary(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  for (int i = 0; i < 32; i++) to.codes[i] = static_cast<uint8_t>((b[2 + i / 4] >> (i % 4 * 2) & 3) + 1);  // offset 2
}

void decode_iq4_nl(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  nibbles(b + 2, to.codes);
}
void decode_mxfp4(const uint8_t* b, Decoded to) {
  to.bytes[0] = b[0];
  nibbles(b + 1, to.codes);
}

}  // namespace shortlist
