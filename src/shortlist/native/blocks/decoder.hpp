// The decoder: a list of layers around one residual stream, or several. One forward pass is one job of the pool, its phases separated
// by barriers. Which blocks there are, and of which sizes, is not known here.
#pragma once
#include <memory>
#include <vector>

#include "blocks/block.hpp"

namespace shortlist {

// Tokens that follow one another in one sequence.
struct Segment {
  Cache* cache;
  int count;
};

class Decoder {
 public:
  // `streams` may be null: there is one residual stream. Throws std::invalid_argument where sizes do not fit.
  Decoder(Matrix embedding, Vector final_norm, float norm_eps, float embedding_scale, std::shared_ptr<Streams> streams);
  // The blocks of a layer belong to this decoder from here on. Throws std::invalid_argument where they are of another decoder, read
  // the state of a block that comes later, or do not fit, and where there are caches already.
  void add_layer(Layer layer);
  int width() const { return embedding_->view.cols; }
  int layers() const { return static_cast<int>(layers_.size()); }
  Cache cache_for(int64_t capacity, bool full_precision) const;
  int64_t vocabulary() const { return embedding_->view.rows; }
  Bytes bytes() const;  // of the layers and what is around them, without the embedding

  // Appends to each segment's cache its tokens, which lie one segment after the other, and writes the final-normed hidden states
  // of all of them, [tokens, width], to `out`. Matrices are read once for all. The caller has checked token ids, and that no cache
  // comes twice. Throws std::invalid_argument for a cache of another decoder, std::length_error for one without room.
  void forward(const int32_t* tokens, const std::vector<Segment>& segments, float* out);

 private:
  void check(const Layer& layer) const;
  void check_block(const Block& block) const;
  void join(Part& part);
  void place(const std::vector<Segment>& segments, Context& context) const;
  void reserve(Context& context, int members) const;
  void run(Pass& pass, float* out) const;
  void embed(Pass& pass) const;
  Batch normed(Pass& pass, const Vector& norm) const;
  void run_branch(Pass& pass, const Branch& branch, const Rows* next) const;
  void add_outputs(Pass& pass, const Branch& branch) const;

  const std::shared_ptr<Owner> owner_ = std::make_shared<Owner>();
  Matrix embedding_;
  Vector final_norm_;
  float norm_eps_, embedding_scale_;
  std::shared_ptr<Streams> streams_;
  std::vector<Layer> layers_;
  std::vector<std::shared_ptr<Prelude>> preludes_;
  std::vector<const Part*> parts_;  // blocks and preludes
  std::vector<StateSize> states_;
  std::unique_ptr<Context> idle_;  // between calls
};

}  // namespace shortlist
