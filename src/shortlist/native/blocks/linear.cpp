#include "blocks/linear.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "kernels/kernels.hpp"

namespace shortlist {

// ---- activations --------------------------------------------------------------------------------------------------

void Activations::reserve(int tokens) {
  if (tokens <= tokens_) return;
  tokens_ = tokens;
  const size_t n = static_cast<size_t>(tokens) * static_cast<size_t>(padded_), groups = n / 32;
  x_.assign(n, 0.0f);  // the padding stays zero
  q_.assign(n, 0);
  for (auto* v : {&d32_, &s32_, &l1_, &n32_}) v->assign(groups, 0.0f);
  for (auto* v : {&d16_, &s16_}) v->assign(2 * groups, 0.0f);
}

Activations::Activations(const float* vectors, int count, int width) : Activations(width) {
  reserve(std::max(count, 1));
  for (int t = 0; t < count; t++) {
    std::copy_n(vectors + static_cast<size_t>(t) * static_cast<size_t>(width), width, x(t));
    quantize(t);
  }
}

void Activations::quantize(int token, int64_t begin, int64_t end) {
  if (begin >= end) return;
  const int64_t first = (static_cast<int64_t>(token) * padded_ + begin) / 32, groups = ((end == width_ ? padded_ : end) - begin) / 32;
  kernels().quantize(x_.data() + first * 32, static_cast<int>(groups) * 32, q_.data() + first * 32, d32_.data() + first, d16_.data() + 2 * first,
                     s32_.data() + first, s16_.data() + 2 * first, l1_.data() + first, n32_.data() + first);
}

void Activations::copy(const Batch& from, int token) {
  const size_t columns = static_cast<size_t>(padded_), groups = columns / 32, at = static_cast<size_t>(token);
  std::copy_n(from.x, columns, &x_[at * columns]);
  std::copy_n(from.q, columns, &q_[at * columns]);
  std::copy_n(from.d32, groups, &d32_[at * groups]);
  std::copy_n(from.s32, groups, &s32_[at * groups]);
  std::copy_n(from.l1, groups, &l1_[at * groups]);
  std::copy_n(from.n32, groups, &n32_[at * groups]);
  std::copy_n(from.d16, 2 * groups, &d16_[at * 2 * groups]);
  std::copy_n(from.s16, 2 * groups, &s16_[at * 2 * groups]);
}

Batch Activations::batch(int tokens) const {
  return {tokens, padded_, x_.data(), q_.data(), d32_.data(), d16_.data(), s32_.data(), s16_.data(), l1_.data(), n32_.data()};
}

// ---- shortlists of channels ---------------------------------------------------------------------------------------

void ChannelInput::serve(const std::vector<const Linear*>& matrices) {
  if (inputs_) throw std::invalid_argument("a shortlist of channels serves the matrices of one input, and this one has some already");
  if (rest && rest->view.group() != 32) throw std::invalid_argument("what is not listed is multiplied in groups of 32 channels");
  for (const Linear* m : matrices) {
    if (!*m) continue;  // an FFN without a gate
    if (!m->channels) throw std::invalid_argument("matrices with a shortlist of channels must all lie by channel");
    const ChannelsView& v = m->channels->view;
    if (inputs_ && v.inputs != inputs_) throw std::invalid_argument("matrices with a shortlist of channels must share one input");
    inputs_ = v.inputs;
    channel_bytes_ += static_cast<int64_t>(v.channel_bytes(v.padded_outputs));
    const bool halves = v.format.group == 16;
    if (halves) shortlist.granule = 16;
    group_bytes_ += static_cast<int64_t>(v.header_bytes(v.padded_outputs));
    if (static_cast<bool>(rest) != static_cast<bool>(m->rest) || (rest && (m->rest->view.cols != rest->view.outputs || m->rest->view.rows != v.outputs)))
      throw std::invalid_argument("what is not listed needs both factors of its low rank");
    if (rest) rest_bytes_ += static_cast<int64_t>(m->rest->bytes());
  }
  if (rest) rest_bytes_ += static_cast<int64_t>(rest->view.bytes());
  if ((rest && rest->view.inputs != inputs_) || (!shortlist.norms.empty() && shortlist.norms.size() != static_cast<size_t>(inputs_)))
    throw std::invalid_argument("a shortlist of channels has the wrong number of inputs");
}

void ChannelInput::choose(const Batch& x, Chosen& chosen) const {
  shortlist.list(x, inputs_, chosen.listed, rest ? &chosen.others : nullptr);
  if (!rest) return;
  const int rank = rest->view.outputs;
  Vector coordinates(static_cast<size_t>(rank));
  for (int at = 0; at < rank; at += kPanel) kernels().dot_channels(rest->view, chosen.others, at, std::min(rank, at + kPanel), coordinates.data() + at);
  chosen.coordinates.emplace(coordinates.data(), 1, rank);
}

void ChannelInput::count(const Batch& x, const Chosen& chosen) {
  channels_read += chosen.listed.count;
  bytes_read += chosen.listed.count * channel_bytes_ + chosen.listed.groups * group_bytes_ + rest_bytes_;
  std::lock_guard lock(kept_mutex_);
  if (recording_) kept_.insert(kept_.end(), x.x, x.x + inputs_);
}

void ChannelInput::record() {
  std::lock_guard lock(kept_mutex_);
  recording_ = true;
}

std::vector<float> ChannelInput::recorded() {
  std::lock_guard lock(kept_mutex_);
  recording_ = false;
  return std::exchange(kept_, {});
}

Input choose(Team& team, ChannelInput* input, const Batch& x, std::vector<Chosen>& chosen) {
  if (!input) return {x};
  const OwnTokens own(team, x.tokens);
  Chosen* first = &chosen[own.alone ? static_cast<size_t>(team.id) : 0];
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) input->choose(x.token(static_cast<int>(t)), first[t]);
  own.barrier();
  if (team.id == 0)
    for (int t = 0; t < x.tokens; t++) input->count(x.token(t), first[t]);
  return {x, first};
}

// ---- products -----------------------------------------------------------------------------------------------------

void check_matrix(const Linear& matrix, int64_t rows, int64_t cols, const char* name, const ChannelInput* input) {
  if (!matrix || matrix.outputs() != rows || matrix.inputs() != cols)
    throw std::invalid_argument(std::string("layer tensor '") + name + "' has the wrong shape");
  if (matrix.channels && !input) throw std::invalid_argument(std::string("layer tensor '") + name + "' lies by channel, and its input has no shortlist");
}

void check_vector(const Vector& vector, int64_t size, const char* name) {
  if (static_cast<int64_t>(vector.size()) != size) throw std::invalid_argument(std::string("layer tensor '") + name + "' has the wrong shape");
}

// Without this every matrix begins with a wait for memory: the prefetch within a matrix cannot look into the next one.
void fetch_start(const Rows& rows, Team::Range share) {
  constexpr size_t start = 8192;
  const size_t count = static_cast<size_t>(share.end - share.begin);
  auto fetch = [](const uint8_t* p, size_t bytes) {
    for (size_t b = 0; b < bytes && b < start; b += 64) __builtin_prefetch(p + b);
  };
  fetch(rows.view.row(share.begin), count * rows.view.primary_stride);
  fetch(rows.view.lower(share.begin), count * rows.view.secondary_stride);
}

// Outputs [begin, end). Of several tokens, each goes through few outputs at a time, so that what they read stays in the cache.
static void multiply_channels(const Linear& matrix, const Input& input, int64_t begin, int64_t end, float* out, size_t stride) {
  const Kernels& k = kernels();
  const int64_t step = input.x.tokens > 1 ? 256 : kPanel;
  for (int64_t at = begin, next; at < end; at = next) {
    next = std::min(end, (at / step + 1) * step);
    for (int t = 0; t < input.x.tokens; t++) {
      float* to = out + static_cast<size_t>(t) * stride + at;
      k.dot_channels(matrix.channels->view, input.chosen[t].listed, static_cast<int>(at), static_cast<int>(next), to);
      if (!matrix.rest) continue;
      float rest[kPanel];
      k.dot_range(matrix.rest->view, input.chosen[t].coordinates->batch(1), at, next, rest);
      k.add(rest, static_cast<int>(next - at), to);
    }
  }
}

Team::Range multiply(Team& team, const Linear& matrix, const Input& input, float* out, size_t stride, const Rows* next,
                     const Vector& bias) {
  const auto share = team.share(matrix.outputs(), matrix.channels ? kBlock : kGrain);
  const size_t count = static_cast<size_t>(share.end - share.begin);
  if (count) {
    if (matrix.channels)
      multiply_channels(matrix, input, share.begin, share.end, out, stride);
    else
      kernels().gemm(matrix.rows->view, input.x, share.begin, share.end, out + share.begin, stride);
    if (!bias.empty())
      for (int t = 0; t < input.x.tokens; t++)
        kernels().add(bias.data() + share.begin, static_cast<int>(count), out + static_cast<size_t>(t) * stride + share.begin);
  }
  if (next) fetch_start(team, *next);
  return share;
}

}  // namespace shortlist
