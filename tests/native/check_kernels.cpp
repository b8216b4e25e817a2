// Compares the kernels in use with the portable ones on awkward sizes, without Python: for processors that are emulated.
//
//   make test-arm
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "blocks/linear.hpp"
#include "formats/half.hpp"
#include "kernels/kernels.hpp"

using namespace shortlist;

namespace {

std::mt19937 generator(1);
int failures = 0, checks = 0;

float uniform(float low, float high) { return std::uniform_real_distribution<float>(low, high)(generator); }
std::vector<float> random_floats(size_t n, float size = 1.0f) {
  std::vector<float> values(n);
  for (float& v : values) v = uniform(-size, size);
  return values;
}

// Largest difference, in units of the largest expected value.
void close(const std::string& what, const std::vector<float>& actual, const std::vector<float>& expected, float relative) {
  float largest = 1e-30f, error = 0.0f;
  for (float v : expected) largest = std::max(largest, std::fabs(v));
  for (size_t i = 0; i < expected.size(); i++) {
    const float difference = std::fabs(actual[i] - expected[i]);
    if (!(difference <= error)) error = difference;
  }
  checks++;
  if (error <= relative * largest) return;
  failures++;
  std::printf("%s: off by %g of %g\n", what.c_str(), static_cast<double>(error), static_cast<double>(largest));
}

// kernel(set, out) for the set in use and the portable one.
void compare(const std::string& what, size_t n, float relative, const std::function<void(const Kernels&, float*)>& kernel) {
  std::vector<float> ours(n, -1.0f), expected(n, -1.0f);
  kernel(kernels(), ours.data());
  kernel(portable_kernels(), expected.data());
  close(what, ours, expected, relative);
}

// Random bytes; the float16 numbers of scales are kept small and finite by clearing their upper exponent bits.
std::vector<uint8_t> random_tensor(const TensorType& type, int64_t rows, int64_t cols) {
  const size_t blocks = static_cast<size_t>(rows * cols / type.weights), size = static_cast<size_t>(type.bytes);
  std::vector<uint8_t> data(blocks * size);
  for (auto& b : data) b = static_cast<uint8_t>(generator());
  const std::string name = type.name;
  std::vector<int> halves = {0};
  if (name == "F32" || name == "BF16" || name == "MXFP4") halves = {};
  if (name == "Q4_1" || name == "Q5_1" || name == "Q4_K" || name == "Q5_K") halves = {0, 2};
  if (name == "Q2_K") halves = {80, 82};
  if (name == "Q3_K") halves = {108};
  if (name == "Q6_K") halves = {208};
  for (size_t i = 0; i < blocks; i++) {
    uint8_t* block = data.data() + i * size;
    for (int at : halves) {
      const uint16_t half = float_to_half(uniform(-0.05f, 0.05f));
      std::memcpy(block + at, &half, 2);
    }
    const float value = uniform(-1.0f, 1.0f);
    if (name == "F32") std::memcpy(block, &value, 4);
    if (name == "BF16") std::memcpy(block, reinterpret_cast<const uint8_t*>(&value) + 2, 2);
    if (name == "MXFP4") block[0] = static_cast<uint8_t>(120 + generator() % 12);
  }
  return data;
}

Rows pack(const TensorType& type, const std::vector<uint8_t>& data, int64_t rows, int64_t cols, bool tiled) {
  Arena arena(0);
  Packer packer(type.name, rows, cols, "", tiled, arena);
  packer.add(data.data(), data.size());
  return packer.finish();
}

void check_type(const TensorType& type, int64_t cols) {
  constexpr int64_t rows = 37;
  constexpr int tokens = 13;
  const auto data = random_tensor(type, rows, cols);
  const std::vector<float> vectors = random_floats(static_cast<size_t>(tokens * cols), 2.0f);
  const Activations activations(vectors.data(), tokens, static_cast<int>(cols));
  const Batch x = activations.batch(tokens);
  const std::vector<int32_t> some = {36, 0, 5, 3, 17, 18, 19, 20, 21, 22, 1};
  const std::vector<float> factors = random_floats(some.size());
  const std::string name = std::string(type.name) + " " + std::to_string(cols);
  for (bool tiled : {false, true}) {
    const Rows packed = pack(type, data, rows, cols, tiled);
    const RowsView& m = packed.view;
    compare(name + (tiled ? " tiles" : " rows"), rows * tokens, 4e-6f, [&](const Kernels& k, float* out) { k.gemm(m, x, 0, rows, out, rows); });
    compare(name + " part", 20, 4e-6f, [&](const Kernels& k, float* out) { k.dot_range(m, x.token(1), 3, 23, out); });
    if (tiled) continue;
    compare(name + " list", some.size(), 4e-6f,
            [&](const Kernels& k, float* out) { k.dot_list(m, x.token(2), some.data(), static_cast<int64_t>(some.size()), out); });
    compare(name + " sum of rows", static_cast<size_t>(cols), 4e-6f, [&](const Kernels& k, float* out) {
      std::fill_n(out, cols, 0.5f);
      k.axpy_list(m, some.data(), factors.data(), static_cast<int64_t>(some.size()), 0, static_cast<int>(cols), out);
    });
    if (m.format.id == kQ8)
      compare(name + " bounds", 2 * rows * tokens, 4e-6f, [&](const Kernels& k, float* out) { k.dot_upper(m, x, 0, rows, out, out + rows * tokens, rows); });
    const Format& f = m.format;
    if (f.quantized() && (f.scale != Scale::F16 || f.bits < 4 || f.looked_up())) continue;
    Arena arena(0);
    const Channels channels(packed, arena);
    const ChannelShortlist shortlist{{}, 0.7f, channels.view.group()};
    ChannelList list;
    shortlist.list(x.token(0), static_cast<int>(cols), list, nullptr);
    compare(name + " channels", rows, 4e-6f, [&](const Kernels& k, float* out) { k.dot_channels(channels.view, list, 0, rows, out); });
  }
}

void check_quantize() {
  std::vector<float> x = random_floats(96, 3.0f);
  std::fill_n(x.data() + 32, 32, 0.0f);
  compare("quantize", 96 + 3 * 4 + 2 * 6, 1e-6f, [&](const Kernels& k, float* out) {
    int8_t q[96];
    float* to = out + 96;
    k.quantize(x.data(), 96, q, to, to + 3, to + 9, to + 12, to + 18, to + 21);
    for (int i = 0; i < 96; i++) out[i] = q[i];
  });
}

void check_codes() {
  const std::vector<uint8_t> bytes = random_tensor({"", 0, 1, 1, kQ8, nullptr}, 11, 64 + 48);
  std::vector<uint16_t> scales(11 * 5, float_to_half(0.01f));
  const Codes codes(reinterpret_cast<const int8_t*>(bytes.data()), scales.data(), bytes.data() + 11 * 64, scales.data(), 11, 2, 3);
  const std::vector<float> vectors = random_floats(5 * 160);
  const Activations activations(vectors.data(), 5, 160);
  compare("codes of an estimate", 5 * 11, 4e-6f, [&](const Kernels& k, float* out) { k.dot_codes(codes.view, activations.batch(5), 0, 11, out, 11); });
}

void check_vectors(int n) {
  const size_t size = static_cast<size_t>(n);
  const auto a = random_floats(size, 6.0f), b = random_floats(size), c = random_floats(size);
  const std::string name = " of " + std::to_string(n);
  compare("rms_norm" + name, size, 2e-6f, [&](const Kernels& k, float* out) { k.rms_norm(a.data(), b.data(), n, 1e-5f, out); });
  compare("silu" + name, size, 2e-6f, [&](const Kernels& k, float* out) { k.gated_silu(a.data(), b.data(), n, out); });
  compare("gelu" + name, size, 2e-6f, [&](const Kernels& k, float* out) { k.gated_gelu(a.data(), b.data(), n, out); });
  compare("add" + name, size, 0.0f, [&](const Kernels& k, float* out) { std::copy(a.begin(), a.end(), out), k.add(b.data(), n, out); });
  compare("rope" + name, 2 * size, 1e-6f, [&](const Kernels& k, float* out) {
    std::copy(a.begin(), a.end(), out), std::copy(b.begin(), b.end(), out + n);
    k.rope_half(out, b.data(), c.data(), n);
  });
  compare("store_f16" + name, size, 0.0f, [&](const Kernels& k, float* out) {
    std::vector<uint16_t> halves(size);
    k.store_f16(a.data(), n, halves.data());
    for (size_t i = 0; i < size; i++) out[i] = halves[i];
  });
  compare("argmax and reaching" + name, size + 3, 0.0f, [&](const Kernels& k, float* out) {
    std::vector<int32_t> rows(size);
    int64_t where;
    k.argmax(a.data(), n, out, &where);
    out[1] = static_cast<float>(where);
    std::vector<float> holed = a;
    holed[size / 2] = NAN;
    const int64_t count = k.reaching(holed.data(), b.data(), 0.5f, n, 1.0f, 7, rows.data());
    out[2] = static_cast<float>(count);
    for (int64_t i = 0; i < count; i++) out[3 + i] = static_cast<float>(rows[static_cast<size_t>(i)]);
  });
}

void check_attention(int dim, int positions) {
  const int heads = 3;
  const auto q = random_floats(static_cast<size_t>(heads * dim)), k = random_floats(static_cast<size_t>(positions * dim)), v = random_floats(k.size());
  std::vector<uint16_t> half_k(k.size()), half_v(v.size());
  for (size_t i = 0; i < k.size(); i++) half_k[i] = float_to_half(k[i]), half_v[i] = float_to_half(v[i]);
  std::vector<float> scores(static_cast<size_t>(heads * positions));
  const std::string name = std::to_string(dim) + " x " + std::to_string(positions);
  compare("attention f32 " + name, static_cast<size_t>(heads * dim), 1e-5f,
          [&](const Kernels& set, float* out) { set.attend_f32(q.data(), heads, dim, k.data(), v.data(), 0, positions - 1, 0.2f, scores.data(), out); });
  compare("attention f16 " + name, static_cast<size_t>(heads * dim), 1e-5f,
          [&](const Kernels& set, float* out) { set.attend_f16(q.data(), heads, dim, half_k.data(), half_v.data(), 0, positions - 1, 0.2f, scores.data(), out); });
}

void check_float_products() {
  for (int rows = 1; rows <= kFloatTile; rows++)
    for (int tokens = 1; tokens <= kFew; tokens++) {
      const auto a = random_floats(static_cast<size_t>(rows * 45)), x = random_floats(static_cast<size_t>(tokens * 45));
      compare("float_dots", static_cast<size_t>(rows * kFew), 1e-5f, [&](const Kernels& k, float* out) { k.float_dots(a.data(), x.data(), rows, tokens, 45, out); });
    }
}

}  // namespace

int main() {
  for (const TensorType& type : tensor_types())
    for (int64_t cols : {1, 3, 11, 19})
      if (type.weights == 1 || cols < 11) check_type(type, type.weights == 1 ? cols * 20 : cols * type.weights);
  check_quantize();
  check_codes();
  for (int n : {1, 7, 8, 9, 16, 31, 100}) check_vectors(n);
  for (int dim : {4, 8, 20, 64, 80}) check_attention(dim, 1), check_attention(dim, 19);
  check_float_products();
  std::printf("%s: %d of %d checks failed\n", kernels().name, failures, checks);
  return failures != 0;
}
