// Tensor types of files: one record each, and how one block of a type is taken apart.
#pragma once
#include <string>

#include "formats/format.hpp"

namespace shortlist {

// Where a block's parts go: unsigned codes, and what the format says of scales (see Format::halves and bytes).
struct Decoded {
  uint8_t* codes;
  uint16_t *scales, *minima;
  uint8_t* bytes;
};

struct TensorType {
  const char* name;
  int number;          // in GGUF files; -1: of no GGUF file
  int weights, bytes;  // of one block
  FormatId packed;     // how it is kept
  void (*decode)(const uint8_t* block, Decoded to);  // nullptr: floats

  const Format& format() const { return kFormats[packed]; }
};

struct TensorTypes {
  const TensorType *first, *last;
  const TensorType* begin() const { return first; }
  const TensorType* end() const { return last; }
};
TensorTypes tensor_types();

// Throws std::invalid_argument where there is no such type.
const TensorType& tensor_type(const std::string& name);

// Decoding, in blocks_*.cpp; layouts as in ggml's quantization code.
void decode_q4_0(const uint8_t*, Decoded);
void decode_q4_1(const uint8_t*, Decoded);
void decode_q5_0(const uint8_t*, Decoded);
void decode_q5_1(const uint8_t*, Decoded);
void decode_q8_0(const uint8_t*, Decoded);
void decode_ternary(const uint8_t*, Decoded);
void decode_iq4_nl(const uint8_t*, Decoded);
void decode_mxfp4(const uint8_t*, Decoded);
void decode_q2_k(const uint8_t*, Decoded);
void decode_q3_k(const uint8_t*, Decoded);
void decode_q4_k(const uint8_t*, Decoded);
void decode_q5_k(const uint8_t*, Decoded);
void decode_q6_k(const uint8_t*, Decoded);
void decode_iq4_xs(const uint8_t*, Decoded);

}  // namespace shortlist
