#include "blocks/attention.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/kernels.hpp"

namespace shortlist {

Attention::Attention(AttentionParts parts, std::shared_ptr<Attention> source) : p_(std::move(parts)), source_(std::move(source)) {
  check();
  if (p_.qkv_input) p_.qkv_input->serve({&p_.q, &p_.k, &p_.v});
  if (p_.o_input) p_.o_input->serve({&p_.o});
}

void Attention::check() const {
  if (p_.kv_heads < 1 || p_.heads < 1 || p_.heads % p_.kv_heads || p_.head_dim < 2 || p_.head_dim % 2)
    throw std::invalid_argument("heads must be a multiple of KV heads, and the head dimension even");
  if (p_.window < 0) throw std::invalid_argument("a window is negative");
  if (p_.rope && 2 * p_.rope->size() > p_.head_dim) throw std::invalid_argument("a RoPE table is larger than a head");
  const int queries = p_.heads * p_.head_dim, keys = p_.kv_heads * p_.head_dim;
  if (!p_.q) throw std::invalid_argument("layer tensor 'q' has the wrong shape");
  check_matrix(p_.q, queries, width(), "q", p_.qkv_input.get());
  if (!source_ || p_.k || p_.v) {
    check_matrix(p_.k, keys, width(), "k", p_.qkv_input.get());
    check_matrix(p_.v, keys, width(), "v", p_.qkv_input.get());
    if (source_) throw std::invalid_argument("a layer has keys and values of its own, or those of one before it");
  } else if (source_->source_ || source_->p_.kv_heads != p_.kv_heads || source_->p_.head_dim != p_.head_dim) {
    throw std::invalid_argument("a layer without keys and values must name one before it that has them, of the same heads");
  }
  check_matrix(p_.o, width(), queries, "o", p_.o_input.get());
  auto check_optional = [](const Vector& v, int n, const char* name) {
    if (!v.empty()) check_vector(v, n, name);
  };
  check_optional(p_.q_norm, wide_norms() ? queries : p_.head_dim, "q_norm");
  if (wide_norms())
    check_vector(p_.k_norm, keys, "k_norm");
  else
    check_optional(p_.k_norm, p_.head_dim, "k_norm");
  check_optional(p_.v_norm, p_.head_dim, "v_norm");
  check_optional(p_.q_bias, queries, "q_bias");
  check_optional(p_.k_bias, keys, "k_bias");
  check_optional(p_.v_bias, keys, "v_bias");
  check_optional(p_.o_bias, width(), "o_bias");
}

StateSize Attention::state_size() const {
  StateSize size;
  if (source_) return size;
  size.rows = 2 * p_.kv_heads;  // keys of every head, then values
  size.values = p_.head_dim;
  return size;
}

Bytes Attention::bytes() const {
  Bytes sum = Bytes::whole(p_.q.bytes() + p_.k.bytes() + p_.v.bytes() + p_.o.bytes());
  for (const auto& input : {p_.qkv_input, p_.o_input})
    if (input) sum += channel_bytes(*input);
  return sum;
}

std::vector<std::shared_ptr<Prelude>> Attention::preludes() const {
  if (!p_.rope) return {};
  return {p_.rope};
}

void Attention::reserve(Context& context) const {
  Scratch& s = context.make<Scratch>(sizes());
  const size_t n = static_cast<size_t>(context.slots()), dim = static_cast<size_t>(p_.head_dim);
  s.attended.reserve(context.slots());
  grow(s.q, n * static_cast<size_t>(p_.heads) * dim);
  for (Vector* v : {&s.k, &s.v}) grow(*v, n * static_cast<size_t>(p_.kv_heads) * dim);
  s.chosen.resize(std::max(s.chosen.size(), n));
  s.scores.resize(std::max(s.scores.size(), static_cast<size_t>(context.members)));
  const size_t needed = static_cast<size_t>(context.longest) * 4;  // the kernel takes up to four heads at a time
  for (Vector& v : s.scores)
    if (v.size() < needed) v.resize(needed + needed / 2);
}

void Attention::inner(Pass& pass, const Batch& normed) {
  Scratch& s = pass.context.get<Scratch>(sizes());
  const size_t queries = static_cast<size_t>(p_.heads * p_.head_dim), keys = static_cast<size_t>(p_.kv_heads * p_.head_dim);
  const Input x = choose(pass.team, p_.qkv_input.get(), normed, s.chosen);
  multiply(pass.team, p_.q, x, s.q.data(), queries, p_.k.rows.get(), p_.q_bias);
  if (p_.k) {
    multiply(pass.team, p_.k, x, s.k.data(), keys, p_.v.rows.get(), p_.k_bias);
    multiply(pass.team, p_.v, x, s.v.data(), keys, p_.o.rows.get(), p_.v_bias);
  }
  pass.team.barrier();
  if (wide_norms()) norm_wide(pass, s);
  turn_and_store(pass, s);
  attend(pass, s);
  const auto columns = pass.team.share(p_.heads * p_.head_dim, 32);
  for (int t = 0; t < pass.context.count; t++) s.attended.quantize(t, columns.begin, columns.end);
}

void Attention::output(Pass& pass, float* out, const Rows* next) {
  Scratch& s = pass.context.get<Scratch>(sizes());
  const Input attended = choose(pass.team, p_.o_input.get(), s.attended.batch(pass.context.count), s.chosen);
  multiply(pass.team, p_.o, attended, out, static_cast<size_t>(width()), next, p_.o_bias);
}

void Attention::norm_wide(Pass& pass, Scratch& s) const {
  const auto rows = pass.team.share(2 * static_cast<int64_t>(pass.context.count));
  for (int64_t r = rows.begin; r < rows.end; r++) {
    const bool is_query = r % 2 == 0;
    if (!is_query && !p_.k) continue;
    const int n = (is_query ? p_.heads : p_.kv_heads) * p_.head_dim;
    float* x = (is_query ? s.q : s.k).data() + r / 2 * n;
    kernels().rms_norm(x, (is_query ? p_.q_norm : p_.k_norm).data(), n, p_.norm_eps, x);
  }
  pass.team.barrier();
}

// Norm and RoPE of every query and key head; keys and values go to the sequence. Ends with a barrier.
void Attention::turn_and_store(Pass& pass, Scratch& s) const {
  const Kernels& k = kernels();
  const int dim = p_.head_dim;
  const bool wide = wide_norms();
  const int64_t per_token = p_.heads + (p_.k ? p_.kv_heads : 0);
  const auto units = pass.team.share(per_token * pass.context.count);
  for (int64_t u = units.begin; u < units.end; u++) {
    const int64_t t = u / per_token;
    const int h = static_cast<int>(u % per_token), kv = h - p_.heads;
    const bool is_query = h < p_.heads;
    float* x = is_query ? s.q.data() + (t * p_.heads + h) * dim : s.k.data() + (t * p_.kv_heads + kv) * dim;
    const Vector& norm = is_query ? p_.q_norm : p_.k_norm;
    if (!norm.empty() && !wide) k.rms_norm(x, norm.data(), dim, p_.norm_eps, x);
    if (p_.rope) {
      const auto& angles = p_.rope->angles(pass.context);
      const int64_t at = t * p_.rope->size();
      k.rope_half(x, angles.cosine.data() + at, angles.sine.data() + at, p_.rope->size());
    }
    if (is_query) continue;
    float* value = s.v.data() + (t * p_.kv_heads + kv) * dim;
    if (!p_.v_norm.empty()) k.rms_norm(value, p_.v_norm.data(), dim, p_.norm_eps, value);
    const auto [cache, position] = pass.context.places[static_cast<size_t>(t)];
    uint8_t *key_row = cache->row(state(), kv, position), *value_row = cache->row(state(), p_.kv_heads + kv, position);
    if (cache->full_precision) {
      std::memcpy(key_row, x, static_cast<size_t>(dim) * 4);
      std::memcpy(value_row, value, static_cast<size_t>(dim) * 4);
    } else {
      k.store_f16(x, dim, reinterpret_cast<uint16_t*>(key_row));
      k.store_f16(value, dim, reinterpret_cast<uint16_t*>(value_row));
    }
  }
  pass.team.barrier();
}

// One unit is a token and the query heads of one KV head; with fewer units than members the heads are shared out. Ends with a barrier.
void Attention::attend(Pass& pass, Scratch& s) const {
  const Kernels& k = kernels();
  const Team& team = pass.team;
  const int count = pass.context.count, group = p_.heads / p_.kv_heads, dim = p_.head_dim;
  const int pieces = static_cast<int64_t>(count) * p_.kv_heads % team.size == 0 || count > 1 ? 1 : group;
  const int heads = group / pieces;
  float* scores = s.scores[static_cast<size_t>(team.id)].data();
  // Later tokens see more positions: members take the units in turn, not in ranges.
  for (int64_t u = team.id; u < static_cast<int64_t>(count) * p_.kv_heads * pieces; u += team.size) {
    const int64_t t = u / (p_.kv_heads * pieces);
    const int first_head = static_cast<int>(u % (p_.kv_heads * pieces)) * heads, kv = first_head / group;
    const auto [cache, last] = pass.context.places[static_cast<size_t>(t)];
    const int64_t first = p_.window ? std::max<int64_t>(0, last - p_.window + 1) : 0;
    const float* q = s.q.data() + (t * p_.heads + first_head) * dim;
    float* out = s.attended.x(static_cast<int>(t)) + first_head * dim;
    const uint8_t *keys = cache->row(cached(), kv, 0), *values = cache->row(cached(), p_.kv_heads + kv, 0);
    if (cache->full_precision)
      k.attend_f32(q, heads, dim, reinterpret_cast<const float*>(keys), reinterpret_cast<const float*>(values), first, last, p_.scale, scores, out);
    else
      k.attend_f16(q, heads, dim, reinterpret_cast<const uint16_t*>(keys), reinterpret_cast<const uint16_t*>(values), first, last, p_.scale, scores, out);
  }
  pass.team.barrier();
}

}  // namespace shortlist
