// Plain C++: the readable twin of the vector kernels, the oracle of their tests, and the path of every other processor.
#include "kernels/simd_portable.hpp"
#include "kernels/strips_portable.hpp"
#define SHORTLIST_ISA_NAMESPACE portable
#define SHORTLIST_ISA_NAME "portable"

#include "kernels/kernels.hpp"

namespace shortlist::portable {

struct BlockDot {
  F sum = F::zero();  // one lane per 16 columns of a block; the others stay zero

  static int nibble(const uint8_t* block, int i) { return block[i % 32] >> (i < 32 ? 0 : 4) & 15; }

  // Adds the products of 64 columns, where code(i) is that of column i.
  template <int group, class Code>
  void add(Code code, const int8_t* q, const float* comb) {
    for (int part = 0; part < 4; part++) {
      int32_t products = 0;
      for (int i = part * 16; i < part * 16 + 16; i++) products += code(i) * q[i];
      sum.v[part] += static_cast<float>(products) * comb[part * 16 / group];
    }
  }

  template <int id>
  void block(const uint8_t* fields, const uint8_t* plane, const uint8_t* second, const int8_t* q, const float* comb) {
    constexpr Format f = kFormats[id];
    auto code = [&](int i) {
      int c = f.low_bits() == 2 ? fields[i % 16] >> (i / 16 * 2) & 3 : nibble(fields, i);
      if constexpr (f.planes() >= 1) c |= (plane[i / 8] >> (i % 8) & 1) << f.low_bits();
      if constexpr (f.planes() == 2) c |= (second[i / 8] >> (i % 8) & 1) << (f.low_bits() + 1);
      if constexpr (f.looked_up()) c = f.table[c];
      return c;
    };
    add<f.group>(code, q, comb);
  }
  F total() const { return sum; }
};

// Products of a slab (32 columns of 8 rows) of a tiled matrix.
struct SlabDot {
  using Lanes = F;
  // out[t] = the sums over the columns of steps [first, first + count), a row to a lane, for queries that lie `stride` bytes
  // apart; 8-bit codes are signed.
  template <int id, int first, int count, int tokens>
  static void sums(const uint8_t* slab, const int8_t* q, size_t stride, Lanes* out);
};

// Products of the listed channels of a group: 64 outputs, 8 to a register.
struct ChannelDot {
  // sums[o] = the codes of four channels each, times q; channel i of them lies at codes + at[i]. Calls
  // meanwhile() for each four of them.
  template <int bits, class Meanwhile>
  static void sums(const uint8_t* codes, const uint32_t* at, const int32_t* q, int quads, F* sums, Meanwhile meanwhile) {
    int32_t total[kBlock] = {};
    for (int i = 0; i < quads * kTogetherInputs; i++) {
      if (i % kTogetherInputs == 0) meanwhile();
      const uint8_t* from = codes + at[i];
      const int factor = reinterpret_cast<const int8_t*>(q)[i];
      for (int o = 0; o < kBlock; o++) {
        const int place = channel_place(o % 32);
        int code = bits == 8 ? static_cast<int8_t>(from[o / 32 * 32 + place]) : from[place] >> (o < 32 ? 0 : 4) & 15;
        for (int plane = 0; plane < bits - 4 && bits < 8; plane++) code |= (from[32 + plane * 8 + o % 8] >> o / 8 & 1) << (4 + plane);
        total[o] += factor * code;
      }
    }
    for (int o = 0; o < kBlock; o++) sums[o / 8].v[o % 8] = static_cast<float>(total[o]);
  }
};

}  // namespace shortlist::portable

#include "kernels/kernels.inl"

namespace shortlist::portable {

template <int id, int first, int count, int tokens>
void SlabDot::sums(const uint8_t* slab, const int8_t* q, size_t stride, F* out) {
  constexpr Format f = kFormats[id];
  int32_t sums[tokens][kTileRows] = {};
  for (int k = first; k < first + count; k++) {
    uint8_t codes[32];
    slab_codes(slab, f, k, codes);
    for (int t = 0; t < tokens; t++)
      for (int j = 0; j < 32; j++) {
        const int code = f.looked_up() ? f.table[codes[j]] : f.bits == 8 ? codes[j] - 128 : codes[j];
        sums[t][j / 4] += code * q[static_cast<size_t>(t) * stride + static_cast<size_t>(k * 4 + j % 4)];
      }
  }
  for (int t = 0; t < tokens; t++)
    for (int r = 0; r < kTileRows; r++) out[t].v[r] = static_cast<float>(sums[t][r]);
}

}  // namespace shortlist::portable
