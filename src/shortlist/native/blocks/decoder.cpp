#include "blocks/decoder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <stdexcept>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace shortlist {

// ---- cache --------------------------------------------------------------------------------------------------------

Cache::Cache(std::shared_ptr<Owner> owner, int layers, const Config& config, int64_t capacity, bool full_precision)
    : owner(std::move(owner)), capacity(capacity), full_precision(full_precision), layers_(layers), kv_heads_(config.kv_heads),
      row_bytes_(static_cast<size_t>(config.head_dim) * (full_precision ? 4 : 2)), router_bytes_(static_cast<size_t>(config.router_rank) * sizeof(float)) {
  const size_t bytes = token_bytes() * static_cast<size_t>(capacity);
#if defined(__linux__)
  // Small pages on purpose: a huge page per head would commit most of an empty cache.
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<uint8_t*>(p);
#else
  data_ = static_cast<uint8_t*>(std::calloc(bytes, 1));
  if (!data_) throw std::bad_alloc();
#endif
}

Cache::~Cache() {
#if defined(__linux__)
  munmap(data_, token_bytes() * static_cast<size_t>(capacity));
#else
  std::free(data_);
#endif
}

void Cache::truncate(int64_t positions) {
  std::lock_guard lock(owner->busy);
  if (positions < 0 || positions > length) throw std::invalid_argument("a cache can only be cut to fewer positions");
  length = positions;
}

void Cache::discard(int64_t positions) {
  truncate(positions);
  std::lock_guard lock(owner->busy);
#if defined(__linux__)
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), kept = static_cast<size_t>(positions), all = static_cast<size_t>(capacity);
  for (size_t i = 0; i <= heads(); i++) {
    // Whole pages between what is kept of this part and the next one.
    const size_t first = static_cast<size_t>(part(i) - data_), begin = (first + kept * row_bytes(i) + page - 1) / page * page;
    const size_t end = (first + all * row_bytes(i)) / page * page;
    if (begin < end) madvise(data_ + begin, end - begin, MADV_DONTNEED);
  }
#endif
}

void Cache::take_over(const Cache& from, int64_t positions) {
  if (from.owner != owner || from.full_precision != full_precision) throw std::invalid_argument("the caches are not of the same decoder and precision");
  std::lock_guard lock(owner->busy);
  if (positions > from.length || positions > capacity) throw std::length_error("a cache can only take over positions that are there, and that it has room for");
  for (size_t i = 0; i <= heads(); i++) std::memcpy(part(i), from.part(i), row_bytes(i) * static_cast<size_t>(positions));
  length = positions;
}

// ---- decoder ------------------------------------------------------------------------------------------------------

Decoder::Decoder(Config config, Matrix embedding, Vector final_norm)
    : config_(std::move(config)), embedding_(std::move(embedding)), final_norm_(std::move(final_norm)),
      laurel_(config_.laurel_rank, config_.width, config_.norm_eps), normed_(config_.width), attended_(config_.heads * config_.head_dim) {
  if (config_.kv_heads < 1 || config_.heads < 1 || config_.heads % config_.kv_heads || config_.head_dim < 2 || config_.head_dim % 2 || config_.ffn_width < 0)
    throw std::invalid_argument("heads must be a multiple of KV heads, and the head dimension even");
}

void Decoder::check_unused() const {
  if (owner_.use_count() > 1) throw std::invalid_argument("a decoder is built before caches are made for it");
}

void Decoder::set_altup(AltUp altup) {
  std::lock_guard lock(owner_->busy);
  check_unused();
  altup_ = std::make_unique<AltUp>(std::move(altup));
}

Cache Decoder::cache_for(int64_t capacity, bool full_precision) const {
  std::lock_guard lock(owner_->busy);
  return Cache(owner_, kv_layers_, config_, capacity, full_precision);
}

void Decoder::set_shared_router(SharedRouter router) {
  std::lock_guard lock(owner_->busy);
  check_unused();
  if (router.width() != config_.width) throw std::invalid_argument("the router is of another width than the decoder");
  config_.router_rank = router.rank();
  router_ = std::make_unique<SharedRouter>(std::move(router));
}

void Decoder::add_layer(Layer layer) {
  std::lock_guard lock(owner_->busy);
  check_unused();
  const Config& c = config_;
  const bool own_keys = layer.k || layer.v;
  check_matrix(layer.q, c.heads * c.head_dim, c.width, "q", layer.qkv_input.get());
  if (own_keys) {
    check_matrix(layer.k, c.kv_heads * c.head_dim, c.width, "k", layer.qkv_input.get());
    check_matrix(layer.v, c.kv_heads * c.head_dim, c.width, "v", layer.qkv_input.get());
    layer.kv_layer = kv_layers_;
  } else if (layer.kv_layer < 0 || layer.kv_layer >= kv_layers_) {
    throw std::invalid_argument("a layer without keys and values must name one before it that has them");
  }
  check_matrix(layer.o, c.width, c.heads * c.head_dim, "o", layer.o_input.get());
  check_ffn(layer);
  auto check_optional = [](const Vector& v, int n, const char* name) {
    if (!v.empty()) check_vector(v, n, name);
  };
  check_vector(layer.attention_norm, c.width, "attention_norm");
  check_vector(layer.ffn_norm, c.width, "ffn_norm");
  check_optional(layer.post_attention_norm, c.width, "post_attention_norm");
  check_optional(layer.post_ffn_norm, c.width, "post_ffn_norm");
  const bool wide = layer.wide_norms(c);
  check_optional(layer.q_norm, wide ? c.heads * c.head_dim : c.head_dim, "q_norm");
  if (wide)
    check_vector(layer.k_norm, c.kv_heads * c.head_dim, "k_norm");
  else
    check_optional(layer.k_norm, c.head_dim, "k_norm");
  check_optional(layer.v_norm, c.head_dim, "v_norm");
  check_optional(layer.q_bias, c.heads * c.head_dim, "q_bias");
  check_optional(layer.k_bias, c.kv_heads * c.head_dim, "k_bias");
  check_optional(layer.v_bias, c.kv_heads * c.head_dim, "v_bias");
  check_optional(layer.o_bias, c.width, "o_bias");
  if (layer.laurel) laurel_.check(layer.laurel);
  if (altup_) altup_->check(layer.altup, layers());
  if (!altup_ && !layer.altup.router.empty()) throw std::invalid_argument("a layer has streams, and the decoder has none");
  if (layer.mixture && !layer.mixture->router() && (!router_ || router_->experts() != layer.mixture->experts()))
    throw std::invalid_argument("a mixture without a router needs a shared one with as many experts");
  if (layer.rope_table < 0 || layer.rope_table >= static_cast<int>(c.rope.size())) throw std::invalid_argument("rope_table is out of range");
  if (layer.window < 0) throw std::invalid_argument("a window is negative");
  if (layer.qkv_input) layer.qkv_input->serve({&layer.q, &layer.k, &layer.v});
  if (layer.o_input) layer.o_input->serve({&layer.o});
  if (layer.gate_up_input) layer.gate_up_input->serve({&layer.gate, &layer.up});
  if (layer.down_input) layer.down_input->serve({&layer.down});
  if (!layer.mixture) hidden_.try_emplace(layer.ffn_width(), layer.ffn_width());
  kv_layers_ += own_keys;
  layers_.push_back(std::move(layer));
}

void Decoder::reserve(int members) {
  const Config& c = config_;
  const int tokens = static_cast<int>(places_.size()), slots = std::max(tokens, members);
  const size_t n = static_cast<size_t>(slots), dim = static_cast<size_t>(c.head_dim), width = static_cast<size_t>(c.width);
  for (auto* a : {&normed_, &attended_}) a->reserve(slots);
  for (auto& [_, hidden] : hidden_) hidden.reserve(slots);
  if (c.laurel_rank) laurel_.reserve(slots);
  if (altup_) altup_->reserve(slots, members);
  if (residual_.size() < n * width) {
    for (auto* v : {&residual_, &projected_}) v->resize(n * width);
    q_.resize(n * static_cast<size_t>(c.heads) * dim);
    for (auto* v : {&k_, &v_}) v->resize(n * static_cast<size_t>(c.kv_heads) * dim);
    for (auto* v : {&gate_, &up_}) v->resize(n * static_cast<size_t>(c.ffn_width));
    for (auto* v : {&cosine_, &sine_}) v->resize(n * c.rope.size() * dim / 2);
    cutoffs_.resize(n);
  }
  for (const Layer& layer : layers_)
    if (layer.mixture) mixtures_.reserve(*layer.mixture, tokens, members);
  const bool lists = std::any_of(layers_.begin(), layers_.end(), [](const Layer& layer) { return static_cast<bool>(layer.ffn); });
  if (lists && listed_counts_.size() < n) {
    listed_.resize(n * static_cast<size_t>(c.ffn_width));
    listed_counts_.resize(n);
  }
  chosen_.resize(std::max(chosen_.size(), n));
  scores_.resize(std::max(scores_.size(), static_cast<size_t>(members)));
  const size_t needed = static_cast<size_t>(longest_) * 4;  // attention takes up to four heads at a time
  for (auto& s : scores_)
    if (s.size() < needed) s.resize(needed + needed / 2);
}

void Decoder::place(const std::vector<Segment>& segments) {
  longest_ = 0;
  places_.clear();
  for (const Segment& segment : segments) {
    const Cache& cache = *segment.cache;
    if (cache.owner != owner_) throw std::invalid_argument("a cache belongs to the decoder that it was made for, and this one was made for another");
    if (cache.length + segment.count > cache.capacity) throw std::length_error("the cache is full");
    for (int i = 0; i < segment.count; i++) places_.push_back({segment.cache, cache.length + i});
    longest_ = std::max(longest_, cache.length + segment.count);
  }
}

void Decoder::forward(const int32_t* tokens, const std::vector<Segment>& segments, float* out) {
  std::lock_guard lock(owner_->busy);
  place(segments);
  if (router_) {
    route_.resize(places_.size());
    for (size_t t = 0; t < places_.size(); t++) {
      const auto [cache, position] = places_[t];
      route_[t] = router_->choose(*embedding_, tokens[t], position ? cache->router_state(position - 1) : nullptr, cache->router_state(position));
    }
  }
  Pool::instance().run([&](int members) { reserve(members); }, [&](Team& team) { run(team, tokens, out); });
  for (const Segment& segment : segments) segment.cache->length += segment.count;
}

// What is read first of a layer's feed-forward part; null where the token says.
static Matrix first_rows(const Layer& layer) {
  if (layer.mixture) return layer.mixture->router() ? layer.mixture->router()->first() : nullptr;
  return layer.ffn ? layer.ffn->scores : layer.gate ? layer.gate.rows : layer.up.rows;
}

void Decoder::run(Team& team, const int32_t* tokens, float* out) {
  const int count = static_cast<int>(places_.size());
  const Config& c = config_;
  const Kernels& k = kernels();
  const int width = c.width, half = c.head_dim / 2;
  const OwnTokens own(team, count);
  const auto mine = own.mine;
  auto residual = [&](int64_t t) { return residual_.data() + own.slot(t) * width; };
  auto projected = [&](int64_t t) { return projected_.data() + t * width; };

  for (int64_t t = mine.begin; t < mine.end; t++) {
    unpack_row(embedding_->view, tokens[t], residual(t));
    for (int i = 0; i < width; i++) residual(t)[i] *= c.embedding_scale;
  }
  const auto angles = team.share(static_cast<int64_t>(c.rope.size()) * count);
  for (int64_t a = angles.begin; a < angles.end; a++) {
    const Vector& frequencies = c.rope[static_cast<size_t>(a / count)];
    const double position = static_cast<double>(places_[static_cast<size_t>(a % count)].position);
    const double scale = static_cast<double>(c.rope_scales[static_cast<size_t>(a / count)]);
    for (int i = 0; i < half; i++) {
      const double angle = position * static_cast<double>(frequencies[static_cast<size_t>(i)]);
      cosine_[static_cast<size_t>(a * half + i)] = static_cast<float>(scale * std::cos(angle));
      sine_[static_cast<size_t>(a * half + i)] = static_cast<float>(scale * std::sin(angle));
    }
  }

  // The normed input of a block.
  auto normed = [&](const Vector& norm) {
    for (int64_t t = mine.begin; t < mine.end; t++) {
      k.rms_norm(residual(t), norm.data(), width, c.norm_eps, normed_.x(own.slot(t)));
      normed_.quantize(own.slot(t));
    }
    own.barrier();
    return own.batch(normed_);
  };
  // Adds what a block wrote to `projected_`, through its own norm where the family has one, to the residual stream.
  auto add_projected = [&](const Vector& post_norm) {
    for (int64_t t = mine.begin; t < mine.end; t++) {
      const float* block = projected(t);
      if (!post_norm.empty()) {
        float* scaled = normed_.x(own.slot(t));  // free after a block
        k.rms_norm(block, post_norm.data(), width, c.norm_eps, scaled);
        block = scaled;
      }
      k.add(block, width, residual(t));
    }
  };

  if (altup_) altup_->start(own, tokens, residual_.data());

  for (size_t l = 0; l < layers_.size(); l++) {
    const Layer& layer = layers_[l];
    const Rows* first_of_ffn = first_rows(layer).get();
    const Rows* following = l + 1 < layers_.size() ? layers_[l + 1].q.rows.get() : nullptr;
    if (altup_) altup_->before(own, layer.altup, residual_.data());
    const Input x = choose(team, layer.qkv_input.get(), normed(layer.attention_norm));
    multiply(team, layer.q, x, q_.data(), static_cast<size_t>(c.heads * c.head_dim), layer.k.rows.get(), layer.q_bias);
    if (layer.k) {
      multiply(team, layer.k, x, k_.data(), static_cast<size_t>(c.kv_heads * c.head_dim), layer.v.rows.get(), layer.k_bias);
      multiply(team, layer.v, x, v_.data(), static_cast<size_t>(c.kv_heads * c.head_dim), layer.o.rows.get(), layer.v_bias);
    }
    if (layer.laurel) laurel_.left(team, layer.laurel, {x.x});
    team.barrier();
    attention(team, layer);
    const Input attended = choose(team, layer.o_input.get(), attended_.batch(count));
    if (layer.laurel) laurel_.right(own, layer.laurel);
    multiply(team, layer.o, attended, projected_.data(), static_cast<size_t>(width), first_of_ffn, layer.o_bias);
    team.barrier();
    if (layer.laurel) laurel_.add(own, layer.laurel, normed_, residual_.data());
    add_projected(layer.post_attention_norm);
    if (layer.laurel) laurel_.halve(own, residual_.data());

    const Batch y = normed(layer.ffn_norm);
    if (layer.mixture)
      layer.mixture->run(team, mixtures_, y, projected_.data(), following, route_.data());
    else if (layer.ffn)
      shortlisted_ffn(team, layer, y, count, following);
    else
      dense_ffn(team, layer, y, count, following);
    add_projected(layer.post_ffn_norm);
    if (altup_) altup_->after(own, layer.altup, static_cast<int>(l), c.activation, residual_.data());
  }

  if (altup_) altup_->finish(own, residual_.data());
  for (int64_t t = mine.begin; t < mine.end; t++)
    if (!own.alone || team.id == 0) k.rms_norm(residual(t), final_norm_.data(), width, c.norm_eps, out + t * width);
}

Input Decoder::choose(Team& team, ChannelInput* input, const Batch& x) {
  if (!input) return {x};
  // As in run(): one token's list is made by every member for itself.
  const bool alone = x.tokens == 1;
  const auto mine = alone ? Team::Range{0, 1} : team.share(x.tokens);
  Chosen* chosen = &chosen_[alone ? static_cast<size_t>(team.id) : 0];
  for (int64_t t = mine.begin; t < mine.end; t++) input->choose(x.token(static_cast<int>(t)), chosen[t]);
  if (!alone) team.barrier();
  if (team.id == 0)
    for (int t = 0; t < x.tokens; t++) input->count(x.token(t), chosen[t]);
  return {x, chosen};
}

// From q_, k_, v_ to attended_, through the cache. Ends with a barrier.
void Decoder::attention(Team& team, const Layer& layer) {
  const Config& c = config_;
  const Kernels& k = kernels();
  const int dim = c.head_dim, half = dim / 2, index = layer.kv_layer;
  const int count = static_cast<int>(places_.size());

  const bool wide = layer.wide_norms(c);
  if (wide) {
    const auto rows = team.share(2 * static_cast<int64_t>(count));
    for (int64_t r = rows.begin; r < rows.end; r++) {
      const bool is_query = r % 2 == 0;
      const int n = (is_query ? c.heads : c.kv_heads) * dim;
      float* x = (is_query ? q_ : k_).data() + r / 2 * n;
      k.rms_norm(x, (is_query ? layer.q_norm : layer.k_norm).data(), n, c.norm_eps, x);
    }
    team.barrier();
  }

  // Norm and RoPE of every query and key head; keys and values go to the cache.
  const int64_t per_token = c.heads + (layer.k ? c.kv_heads : 0);
  const auto units = team.share(per_token * count);
  for (int64_t u = units.begin; u < units.end; u++) {
    const int64_t t = u / per_token;
    const int h = static_cast<int>(u % per_token);
    const bool is_query = h < c.heads;
    const int kv = h - c.heads;
    float* x = is_query ? q_.data() + (t * c.heads + h) * dim : k_.data() + (t * c.kv_heads + kv) * dim;
    const Vector& norm = is_query ? layer.q_norm : layer.k_norm;
    if (!norm.empty() && !wide) k.rms_norm(x, norm.data(), dim, c.norm_eps, x);
    const int64_t angle = (static_cast<int64_t>(layer.rope_table) * count + t) * half;
    k.rope_half(x, cosine_.data() + angle, sine_.data() + angle, half);
    if (is_query) continue;
    float* value = v_.data() + (t * c.kv_heads + kv) * dim;
    if (!layer.v_norm.empty()) k.rms_norm(value, layer.v_norm.data(), dim, c.norm_eps, value);
    const auto [cache, position] = places_[static_cast<size_t>(t)];
    if (cache->full_precision) {
      const size_t at = static_cast<size_t>(position * dim) * 4, bytes = static_cast<size_t>(dim) * 4;
      std::memcpy(cache->keys(index, kv) + at, x, bytes);
      std::memcpy(cache->values(index, kv) + at, value, bytes);
    } else {
      k.store_f16(x, dim, reinterpret_cast<uint16_t*>(cache->keys(index, kv)) + position * dim);
      k.store_f16(value, dim, reinterpret_cast<uint16_t*>(cache->values(index, kv)) + position * dim);
    }
  }
  team.barrier();

  // One unit is a token and the query heads of one KV head; with fewer units than members the heads are dealt out.
  const int group = c.heads / c.kv_heads;
  const int pieces = static_cast<int64_t>(count) * c.kv_heads % team.size == 0 || count > 1 ? 1 : group;
  const int heads = group / pieces;
  float* scores = scores_[static_cast<size_t>(team.id)].data();
  // Later tokens see more positions: deal the units out in turn, not in ranges.
  for (int64_t u = team.id; u < static_cast<int64_t>(count) * c.kv_heads * pieces; u += team.size) {
    const int64_t t = u / (c.kv_heads * pieces);
    const int first_head = static_cast<int>(u % (c.kv_heads * pieces)) * heads, kv = first_head / group;
    const auto [cache, last] = places_[static_cast<size_t>(t)];
    const int64_t first = layer.window ? std::max<int64_t>(0, last - layer.window + 1) : 0;
    const float* q = q_.data() + (t * c.heads + first_head) * dim;
    float* out = attended_.x(static_cast<int>(t)) + first_head * dim;
    if (cache->full_precision)
      k.attend_f32(q, heads, dim, reinterpret_cast<float*>(cache->keys(index, kv)), reinterpret_cast<float*>(cache->values(index, kv)), first, last,
                   c.attention_scale, scores, out);
    else
      k.attend_f16(q, heads, dim, reinterpret_cast<uint16_t*>(cache->keys(index, kv)), reinterpret_cast<uint16_t*>(cache->values(index, kv)), first, last,
                   c.attention_scale, scores, out);
  }
  team.barrier();
  const auto columns = team.share(c.heads * dim, 32);
  for (int t = 0; t < count; t++) attended_.quantize(t, columns.begin, columns.end);
  team.barrier();
}

}  // namespace shortlist
