// Types with blocks of 256 weights: scales of sub-blocks are small integers times a float16 of the block. Q4_K, Q5_K and Q6_K
// keep the product, rounded to float16; the others keep both, because a float16 per sub-block would make them much larger.
#include <cstring>

#include "formats/half.hpp"
#include "formats/types.hpp"

namespace shortlist {

static float read_half(const uint8_t* p) { return half_to_float(read16(p)); }

// The 6-bit scale and minimum of group j (of 8) in the 12 bytes of Q4_K and Q5_K.
static void k_scale(const uint8_t* s, int j, int* scale, int* minimum) {
  if (j < 4) {
    *scale = s[j] & 63;
    *minimum = s[j + 4] & 63;
  } else {
    *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    *minimum = s[j + 4] >> 4 | (s[j] >> 6) << 4;
  }
}
static void k_scales(const uint8_t* b, Decoded to) {
  const float d = read_half(b), dmin = read_half(b + 2);
  for (int j = 0; j < 8; j++) {
    int scale, minimum;
    k_scale(b + 4, j, &scale, &minimum);
    to.scales[j] = float_to_half(d * static_cast<float>(scale));
    to.minima[j] = float_to_half(-dmin * static_cast<float>(minimum));
  }
}
// 128 codes of 2 bits in 32 bytes: the first 32 in the lowest bits of each.
static void crumbs(const uint8_t* from, uint8_t* codes) {
  for (int i = 0; i < 128; i++) codes[i] = from[i % 32] >> (i / 32 * 2) & 3;
}

void decode_q2_k(const uint8_t* b, Decoded to) {
  std::memcpy(to.bytes, b, 16);  // scales in the low 4 bits, minima in the high ones
  crumbs(b + 16, to.codes);
  crumbs(b + 48, to.codes + 128);
  to.scales[0] = read16(b + 80);
  to.minima[0] = read16(b + 82) ^ 0x8000;  // minima are subtracted
}
void decode_q3_k(const uint8_t* b, Decoded to) {
  const uint8_t *high = b, *s = b + 96;
  crumbs(b + 32, to.codes);
  crumbs(b + 64, to.codes + 128);
  for (int i = 0; i < 256; i++) to.codes[i] = static_cast<uint8_t>(to.codes[i] | (high[i % 32] >> (i / 32) & 1) << 2);
  for (int j = 0; j < 16; j++) {  // 6 bits each: four low ones in the first 8 bytes, two high ones in the last 4
    const int low = s[j % 8] >> (j / 8 * 4) & 15, top = s[8 + j % 4] >> (j / 4 * 2) & 3;
    to.bytes[j] = static_cast<uint8_t>((low | top << 4) - 32);
  }
  to.scales[0] = read16(b + 108);
}
void decode_q4_k(const uint8_t* b, Decoded to) {
  k_scales(b, to);
  for (int half = 0; half < 4; half++)
    for (int i = 0; i < 32; i++) {
      const uint8_t two = b[16 + half * 32 + i];
      to.codes[half * 64 + i] = two & 15;
      to.codes[half * 64 + 32 + i] = two >> 4;
    }
}
void decode_q5_k(const uint8_t* b, Decoded to) {
  k_scales(b, to);
  const uint8_t *high = b + 16, *low = b + 48;
  for (int half = 0; half < 4; half++)
    for (int i = 0; i < 32; i++) {
      const uint8_t two = low[half * 32 + i];
      to.codes[half * 64 + i] = static_cast<uint8_t>((two & 15) | (high[i] >> (2 * half) & 1) << 4);
      to.codes[half * 64 + 32 + i] = static_cast<uint8_t>(two >> 4 | (high[i] >> (2 * half + 1) & 1) << 4);
    }
}
void decode_q6_k(const uint8_t* b, Decoded to) {
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

void decode_iq4_xs(const uint8_t* b, Decoded to) {
  to.scales[0] = read16(b);
  const int high = read16(b + 2);
  for (int j = 0; j < 8; j++) {  // 6 bits each, the high two of all in one word
    const int low = b[4 + j / 2] >> (j % 2 * 4) & 15;
    to.bytes[j] = static_cast<uint8_t>((low | (high >> (2 * j) & 3) << 4) - 32);
    const uint8_t* two = b + 8 + j * 16;
    for (int i = 0; i < 16; i++) to.codes[j * 32 + i] = two[i] & 15, to.codes[j * 32 + 16 + i] = two[i] >> 4;
  }
}

}  // namespace shortlist
