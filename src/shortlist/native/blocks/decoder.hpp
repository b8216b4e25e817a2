// The decoder: one definition for every family. A family is data: which tensors exist, window and RoPE table per layer,
// activation, scales. One forward pass is one job of the pool, its phases separated by barriers.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "blocks/altup.hpp"
#include "kernels/kernels.hpp"
#include "blocks/laurel.hpp"
#include "blocks/linear.hpp"
#include "blocks/moe.hpp"
#include "sites/neurons.hpp"
#include "blocks/shared_router.hpp"

namespace shortlist {

struct Config;

struct Layer {
  Vector attention_norm, q_norm, k_norm, v_norm, post_attention_norm, ffn_norm, post_ffn_norm;
  Vector q_bias, k_bias, v_bias, o_bias, gate_bias, up_bias, down_bias;
  Linear q, k, v, o;                   // without k and v, those of an earlier layer are attended to
  Linear gate, up, down;               // without a gate, the activation is applied to up
  std::shared_ptr<ChannelInput> qkv_input, o_input, gate_up_input, down_input;  // of matrices that lie by channel
  std::optional<ShortlistedFfn> ffn;   // in place of gate, up and down
  std::shared_ptr<Mixture> mixture;    // likewise
  std::optional<float> cutoff;         // of gates, see statistical_cutoff; what lies below it is an exact zero
  LaurelLayer laurel;
  AltUpLayer altup;
  int window = 0;      // 0: attends to everything before it
  int rope_table = 0;  // which row of Config::rope
  int kv_layer = 0;    // of the cache; several layers may share the keys and values of one
  int ffn_width() const { return static_cast<int>(ffn ? ffn->neurons->count() : up.outputs()); }

  // Whether queries and keys are normed over all heads together (olmoe), not head by head.
  bool wide_norms(const Config& c) const;
};

struct Config {
  int width = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int ffn_width = 0;    // of the widest layer
  int laurel_rank = 0;  // 0: no layer has one
  float norm_eps = 1e-5f, embedding_scale = 1.0f, attention_scale = 1.0f;
  Activation activation = Activation::SiLU;
  std::vector<Vector> rope;  // inverse frequencies, head_dim / 2 each
  Vector rope_scales;        // for each of them, what turned queries and keys are multiplied by
  int router_rank = 0;  // of the router that mixtures share; 0: there is none
};

inline bool Layer::wide_norms(const Config& c) const { return q_norm.size() > static_cast<size_t>(c.head_dim); }

// Shared by a decoder and the caches that were made for it: whose they are, and that one call at a time uses any of them.
struct Owner {
  std::mutex busy;
};

// Keys and values per layer and KV head, [capacity, head_dim] each, and what a shared router remembers, [capacity, router_rank].
// Memory is reserved at once and used as it fills.
class Cache {
 public:
  Cache(std::shared_ptr<Owner> owner, int layers, const Config& config, int64_t capacity, bool full_precision);
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  const std::shared_ptr<Owner> owner;
  int64_t length = 0;
  const int64_t capacity;
  const bool full_precision;  // float32 instead of float16
  size_t token_bytes() const { return heads() * row_bytes_ + router_bytes_; }
  // Keeps the first `length` positions. Throws std::invalid_argument where there are fewer.
  void truncate(int64_t length);
  // The same, and gives the memory of the others back.
  void discard(int64_t length);
  // Makes the first `length` positions those of another cache of the same decoder, precision and at least that length.
  void take_over(const Cache& from, int64_t length);
  uint8_t* keys(int layer, int head) const { return at(layer, 0, head); }
  uint8_t* values(int layer, int head) const { return at(layer, 1, head); }
  float* router_state(int64_t position) const { return reinterpret_cast<float*>(part(heads())) + position * static_cast<int64_t>(router_bytes_ / sizeof(float)); }

 private:
  uint8_t* at(int layer, int which, int head) const {
    return part((static_cast<size_t>(layer) * 2 + static_cast<size_t>(which)) * static_cast<size_t>(kv_heads_) + static_cast<size_t>(head));
  }
  // The keys or values of a head, [capacity] rows; behind all of them the states of the router.
  uint8_t* part(size_t i) const { return data_ + i * row_bytes_ * static_cast<size_t>(capacity); }
  size_t heads() const { return static_cast<size_t>(2 * layers_ * kv_heads_); }
  size_t row_bytes(size_t i) const { return i < heads() ? row_bytes_ : router_bytes_; }
  int layers_, kv_heads_;
  size_t row_bytes_, router_bytes_;  // of a position
  uint8_t* data_ = nullptr;
};

// Tokens that follow one another in one sequence.
struct Segment {
  Cache* cache;
  int count;
};

class Decoder {
 public:
  Decoder(Config config, Matrix embedding, Vector final_norm);
  // To be called before any layer is added, each of which must then have its part in it.
  void set_altup(AltUp altup);
  // Likewise.
  void set_shared_router(SharedRouter router);
  void add_layer(Layer layer);
  const Config& config() const { return config_; }
  int layers() const { return static_cast<int>(layers_.size()); }
  // Layers cannot be added while there are caches.
  Cache cache_for(int64_t capacity, bool full_precision) const;
  int64_t vocabulary() const { return embedding_->view.rows; }
  int64_t neurons_read() const { return neurons_read_; }  // by the shortlisted layers, all tokens so far

  // Appends to each segment's cache its tokens, which lie one segment after the other, and writes the final-normed hidden states
  // of all of them, [tokens, width], to `out`. Matrices are read once for all. The caller has checked token ids, and that no cache
  // comes twice. Throws std::invalid_argument for a cache of another decoder, std::length_error for one without room.
  void forward(const int32_t* tokens, const std::vector<Segment>& segments, float* out);

 private:
  void run(Team& team, const int32_t* tokens, float* out);
  void attention(Team& team, const Layer& layer);
  // What each token reads of the matrices that share the input x; everything where there is no shortlist.
  Input choose(Team& team, ChannelInput* input, const Batch& x);
  // From x, the normed input of the tokens, to projected_ (ffn.cpp). End with a barrier.
  void dense_ffn(Team& team, const Layer& layer, const Batch& normed, int count, const Rows* next);
  void shortlisted_ffn(Team& team, const Layer& layer, const Batch& x, int count, const Rows* next);
  void check_ffn(const Layer& layer) const;
  void check_unused() const;
  void place(const std::vector<Segment>& segments);
  void reserve(int members);

  const std::shared_ptr<Owner> owner_ = std::make_shared<Owner>();
  Config config_;
  Matrix embedding_;
  Vector final_norm_;
  std::vector<Layer> layers_;
  int kv_layers_ = 0;  // those with keys and values of their own
  std::unique_ptr<AltUp> altup_;
  std::unique_ptr<SharedRouter> router_;
  Laurel laurel_;

  struct Place {  // of a token
    Cache* cache;
    int64_t position;
  };
  std::vector<Place> places_;   // of the tokens of this pass
  int64_t longest_ = 0;         // positions that one of them attends to
  std::vector<int32_t> route_;  // their experts, where mixtures share a router

  // Scratch of one forward pass, grown to the largest batch seen.
  Activations normed_, attended_;
  std::map<int, Activations> hidden_;  // by the width of the layer's FFN
  Vector residual_, q_, k_, v_, projected_, gate_, up_, cosine_, sine_;
  Vector cutoffs_;  // of gates, by slot
  std::vector<Vector> scores_;                 // per member
  std::vector<int32_t> listed_;                // neurons, [slots, ffn_width]
  std::vector<int64_t> listed_counts_;
  int64_t neurons_read_ = 0;
  MixtureScratch mixtures_;
  std::vector<Chosen> chosen_;  // channels of the current input, by slot
};

}  // namespace shortlist
