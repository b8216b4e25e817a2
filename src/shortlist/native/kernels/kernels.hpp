// The inner loops, once per instruction set. Every set compiles kernels.inl with its own vector type and its own
// integer dot product; the fastest set that the processor has is taken at run time.
#pragma once
#include <cstdint>
#include <string>

#include "sites/channels.hpp"
#include "sites/codes.hpp"
#include "formats/rows.hpp"

// What a row computes must be part of the loop over rows, so that what does not change stays outside it.
#define SHORTLIST_INLINE __attribute__((always_inline)) inline

namespace shortlist {

constexpr int kFloatTile = 6;  // rows: with two registers of columns, their sums fill the registers of AVX2
constexpr int kFew = 4;        // columns that are products with rows, not tiles

struct Kernels {
  const char* name;
  int lanes;  // floats of a register

  // The int8 form of `padded` floats (see Batch). Where one is not a finite number, neither is the scale of its group.
  void (*quantize)(const float* x, int padded, int8_t* q, float* d32, float* d16, float* s32, float* s16, float* l1, float* n32);

  // out[r - begin] = row r . x for rows [begin, end), x a batch of one.
  void (*dot_range)(const RowsView&, const Batch&, int64_t begin, int64_t end, float* out);
  // out[i] = row indices[i] . x: the same arithmetic, row by row, so the values are bit-identical to dot_range.
  void (*dot_list)(const RowsView&, const Batch&, const int32_t* indices, int64_t count, float* out);
  // 8-bit rows from their upper plane: middle[i] is the value with every lower nibble at its mean 7.5, and radius[i] a bound
  // that always holds on |dot - middle|, rounding of both included; for all tokens of a batch, `stride` apart, or of a list for one.
  void (*dot_upper)(const RowsView&, const Batch&, int64_t begin, int64_t end, float* middle, float* radius, size_t stride);
  void (*dot_upper_list)(const RowsView&, const Batch&, const int32_t* indices, int64_t count, float* middle, float* radius);
  // out[t * stride + r - begin] = row r . x_t for rows [begin, end) and all tokens of the batch: the same arithmetic again, so that
  // a token's values do not depend on which others there are.
  void (*gemm)(const RowsView&, const Batch&, int64_t begin, int64_t end, float* out, size_t stride);
  // out[t * stride + r - begin] = row r . x_t for rows [begin, end) of an estimate's codes and all tokens of the batch.
  void (*dot_codes)(const CodesView&, const Batch&, int64_t begin, int64_t end, float* out, size_t stride);

  // y += a * row, in floats. The readable twin of axpy_list, and how a row of any layout is unpacked.
  void (*axpy_row)(const RowsView&, int64_t row, float a, float* y);
  // y[c] += sum_i a[i] * row(rows[i])[c] for columns [begin, end), multiples of 64 or the last. Each column adds in the order of
  // the list, so its value does not depend on how columns are shared out, and rows with a[i] = 0 change nothing.
  void (*axpy_list)(const RowsView&, const int32_t* rows, const float* a, int64_t count, int begin, int end, float* y);

  void (*rms_norm)(const float* x, const float* weight, int n, float eps, float* y);
  void (*gated_silu)(const float* gate, const float* up, int n, float* y);  // y = silu(gate) * up
  void (*gated_gelu)(const float* gate, const float* up, int n, float* y);  // y = gelu_tanh(gate) * up
  void (*rope_half)(float* x, const float* cosine, const float* sine, int half);  // pairs (i, i + half)
  void (*add)(const float* x, int n, float* y);                                   // y += x

  // Attention of `heads` query heads that share one KV head over positions [first, last]:
  // out[h] = sum_p softmax_p(scale * q_h . k_p) v_p. `scores` holds heads * (last - first + 1) floats.
  void (*attend_f16)(const float* q, int heads, int dim, const uint16_t* k, const uint16_t* v, int64_t first, int64_t last, float scale,
                     float* scores, float* out);
  void (*attend_f32)(const float* q, int heads, int dim, const float* k, const float* v, int64_t first, int64_t last, float scale,
                     float* scores, float* out);
  void (*store_f16)(const float* x, int n, uint16_t* y);
  // The largest of n values and where it is first seen.
  void (*argmax)(const float* x, int64_t n, float* best, int64_t* where);
  // Rows first + i with value[i] + scale * margin[i] >= mark, ascending, into `rows` (room for n); returns how many.
  int64_t (*reaching)(const float* value, const float* margin, float scale, int64_t n, float mark, int32_t first, int32_t* rows);
  // out[o - begin] = the listed channels' product with output o, for outputs [begin, end) of one panel; begin a multiple of 64.
  void (*dot_channels)(const ChannelsView&, const ChannelList&, int begin, int end, float* out);
  // c[i * c_stride + j] (+)= sum_k a(i, k) * b[k * width + j], a tile of up to kFloatTile rows and width = 1 or 2 registers of
  // columns. a(i, k) lies at a[i * a_stride + k] or, with a stride of 0, at a[k * kFloatTile + i].
  void (*float_tile)(const float* a, int64_t a_stride, const float* b, int rows, int vectors, int64_t depth, float* c, int64_t c_stride,
      bool add);
  // out[i * kFew + t] = row i of a . x_t for up to kFew x; a [rows, depth], x [tokens, depth].
  void (*float_dots)(const float* a, const float* x, int rows, int tokens, int64_t depth, float* out);
};

// The set in use: the best of the processor, or the one that the environment variable SHORTLIST_ISA names
// (avx512, avx2, neon or portable), read once. Throws std::runtime_error when that one is unknown or missing here.
const Kernels& kernels();

// The readable twins of all others.
const Kernels& portable_kernels();

}  // namespace shortlist
