#include "formats/types.hpp"

#include <stdexcept>

namespace shortlist {

// A new type is a line here and a decoder in blocks_*.cpp; Python reads this table (checkpoints/types.py).
static constexpr TensorType kTypes[] = {
    {"F32", 0, 1, 4, kF32, nullptr},
    {"F16", 1, 1, 2, kF16, nullptr},
    {"BF16", 30, 1, 2, kBF16, nullptr},
    {"Q4_0", 2, 32, 18, kQ4, decode_q4_0},
    {"Q4_1", 3, 32, 20, kQ4m, decode_q4_1},
    {"Q5_0", 6, 32, 22, kQ5, decode_q5_0},
    {"Q5_1", 7, 32, 24, kQ5m, decode_q5_1},
    {"Q8_0", 8, 32, 34, kQ8, decode_q8_0},
    {"Q2_K", 10, 256, 84, kQ2Sub, decode_q2_k},
    {"Q3_K", 11, 256, 110, kQ3Sub, decode_q3_k},
    {"Q4_K", 12, 256, 144, kQ4m, decode_q4_k},
    {"Q5_K", 13, 256, 176, kQ5m, decode_q5_k},
    {"Q6_K", 14, 256, 210, kQ6, decode_q6_k},
    {"IQ4_NL", 20, 32, 18, kIq4, decode_iq4_nl},
    {"IQ4_XS", 23, 256, 136, kIq4Sub, decode_iq4_xs},
    {"MXFP4", 39, 32, 17, kMxfp4, decode_mxfp4},
    {"TERNARY", -1, 32, 10, kTernary, decode_ternary},
};

TensorTypes tensor_types() { return {std::begin(kTypes), std::end(kTypes)}; }

const TensorType& tensor_type(const std::string& name) {
  for (const TensorType& type : kTypes)
    if (name == type.name) return type;
  throw std::invalid_argument("unknown tensor type '" + name + "'");
}

}  // namespace shortlist
