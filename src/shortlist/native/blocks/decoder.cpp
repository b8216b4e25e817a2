#include "blocks/decoder.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "kernels/kernels.hpp"

namespace shortlist {

// ---- building -----------------------------------------------------------------------------------------------------

Decoder::Decoder(Matrix embedding, Vector final_norm, float norm_eps, float embedding_scale, std::shared_ptr<Streams> streams)
    : embedding_(std::move(embedding)), final_norm_(std::move(final_norm)), norm_eps_(norm_eps), embedding_scale_(embedding_scale),
      streams_(std::move(streams)) {
  if (!embedding_) throw std::invalid_argument("a decoder needs an embedding");
  check_vector(final_norm_, width(), "final_norm");
  if (streams_ && streams_->width() != width()) throw std::invalid_argument("the streams are of another width than the decoder");
}

void Decoder::add_layer(Layer layer) {
  std::lock_guard lock(owner_->busy);
  if (owner_.use_count() > 1) throw std::invalid_argument("a decoder is built before caches are made for it");
  check(layer);
  for (Branch& branch : layer)
    for (Branch::Member& member : branch.members) {
      for (const auto& prelude : member.block->preludes()) {
        if (prelude->joined()) continue;
        join(*prelude);
        preludes_.push_back(prelude);
      }
      join(*member.block);
    }
  layers_.push_back(std::move(layer));
}

void Decoder::join(Part& part) {
  const StateSize size = part.state_size();
  part.join(size ? static_cast<int>(states_.size()) : -1);
  if (size) states_.push_back(size);
  parts_.push_back(&part);
}

void Decoder::check(const Layer& layer) const {
  if (layer.empty()) throw std::invalid_argument("a layer needs a branch");
  std::vector<const Block*> blocks;
  for (const Branch& branch : layer) {
    if (branch.members.empty()) throw std::invalid_argument("a branch needs a block");
    if (!branch.norm.empty()) check_vector(branch.norm, width(), "norm");
    for (const Branch::Member& member : branch.members) {
      if (!member.block) throw std::invalid_argument("a branch needs a block");
      if (!member.norm.empty()) check_vector(member.norm, width(), "norm of an output");
      if (std::find(blocks.begin(), blocks.end(), member.block.get()) != blocks.end()) throw std::invalid_argument("a block comes twice");
      check_block(*member.block);
      blocks.push_back(member.block.get());
    }
  }
}

void Decoder::check_block(const Block& block) const {
  auto ours = [&](const Part& part) { return std::find(parts_.begin(), parts_.end(), &part) != parts_.end(); };
  if (block.width() != width()) throw std::invalid_argument("a block is of another width than the decoder");
  if (block.joined()) throw std::invalid_argument("a block is part of one layer, and this one has a layer already");
  if (block.reads() && !ours(*block.reads())) throw std::invalid_argument("a layer without keys and values must name one before it that has them");
  for (const auto& prelude : block.preludes())
    if (prelude->joined() && !ours(*prelude)) throw std::invalid_argument("what blocks share belongs to one decoder, and this is of another");
}

Cache Decoder::cache_for(int64_t capacity, bool full_precision) const {
  std::lock_guard lock(owner_->busy);
  if (streams_ && streams_->layers() != layers()) throw std::invalid_argument("the streams have weights for another number of layers");
  return Cache(owner_, states_, capacity, full_precision);
}

Bytes Decoder::bytes() const {
  std::lock_guard lock(owner_->busy);
  Bytes sum = streams_ ? streams_->bytes() : Bytes();
  for (const Part* part : parts_) sum += part->bytes();
  return sum;
}

// ---- a forward pass -----------------------------------------------------------------------------------------------

void Decoder::place(const std::vector<Segment>& segments, Context& context) const {
  context.longest = 0;
  context.places.clear();
  for (const Segment& segment : segments) {
    const Cache& cache = *segment.cache;
    if (cache.owner != owner_) throw std::invalid_argument("a cache belongs to the decoder that it was made for, and this one was made for another");
    if (cache.length + segment.count > cache.capacity) throw std::length_error("the cache is full");
    for (int i = 0; i < segment.count; i++) context.places.push_back({segment.cache, cache.length + i});
    context.longest = std::max(context.longest, cache.length + segment.count);
  }
  context.count = static_cast<int>(context.places.size());
}

void Decoder::reserve(Context& context, int members) const {
  context.members = members;
  const size_t size = static_cast<size_t>(context.slots()) * static_cast<size_t>(width());
  context.normed.reserve(context.slots());
  grow(context.residual, size);
  grow(context.scaled, size);
  for (const Layer& layer : layers_)
    for (const Branch& branch : layer) context.outputs.resize(std::max(context.outputs.size(), branch.members.size()));
  for (Vector& output : context.outputs) grow(output, size);
  if (streams_) streams_->reserve(context);
  for (const Part* part : parts_) part->reserve(context);
}

void Decoder::forward(const int32_t* tokens, const std::vector<Segment>& segments, float* out) {
  std::lock_guard lock(owner_->busy);
  std::unique_ptr<Context> context = std::move(idle_);
  if (!context) context = std::make_unique<Context>(width());
  context->tokens = tokens;
  context->embedding = embedding_.get();
  place(segments, *context);
  for (const auto& prelude : preludes_) prelude->prepare(*context);
  auto work = [&](Team& team) {
    Pass pass(team, *context);
    run(pass, out);
  };
  Pool::instance().run([&](int members) { reserve(*context, members); }, work);
  for (const Segment& segment : segments) segment.cache->length += segment.count;
  idle_ = std::move(context);
}

void Decoder::run(Pass& pass, float* out) const {
  embed(pass);
  for (const auto& prelude : preludes_) prelude->start(pass);
  if (streams_) streams_->start(pass);
  for (int l = 0; l < layers(); l++) {
    const Layer& layer = layers_[static_cast<size_t>(l)];
    const Layer* after = l + 1 < layers() ? &layers_[static_cast<size_t>(l) + 1] : nullptr;
    if (streams_) streams_->before(pass, l);
    for (size_t b = 0; b < layer.size(); b++) {
      const Branch* next = b + 1 < layer.size() ? &layer[b + 1] : after ? &after->front() : nullptr;
      run_branch(pass, layer[b], next ? next->members.back().block->first() : nullptr);
    }
    if (streams_) streams_->after(pass, l);
  }
  if (streams_) streams_->finish(pass);
  if (pass.own.alone && pass.team.id) return;
  for (int64_t t = pass.own.mine.begin; t < pass.own.mine.end; t++)
    kernels().rms_norm(pass.residual(t), final_norm_.data(), width(), norm_eps_, out + t * width());
}

void Decoder::embed(Pass& pass) const {
  for (int64_t t = pass.own.mine.begin; t < pass.own.mine.end; t++) {
    float* to = pass.residual(t);
    unpack_row(embedding_->view, pass.context.tokens[t], to);
    for (int i = 0; i < width(); i++) to[i] *= embedding_scale_;
  }
}

Batch Decoder::normed(Pass& pass, const Vector& norm) const {
  Activations& x = pass.context.normed;
  for (int64_t t = pass.own.mine.begin; t < pass.own.mine.end; t++) {
    const int slot = pass.own.slot(t);
    if (norm.empty())
      std::copy_n(pass.residual(t), width(), x.x(slot));
    else
      kernels().rms_norm(pass.residual(t), norm.data(), width(), norm_eps_, x.x(slot));
    x.quantize(slot);
  }
  pass.own.barrier();
  return pass.own.batch(x);
}

void Decoder::run_branch(Pass& pass, const Branch& branch, const Rows* next) const {
  const Batch x = normed(pass, branch.norm);
  for (const auto& member : branch.members) member.block->inner(pass, x);
  pass.team.barrier();
  for (size_t i = 0; i < branch.members.size(); i++)
    branch.members[i].block->output(pass, pass.context.outputs[i].data(), i + 1 == branch.members.size() ? next : nullptr);
  pass.team.barrier();
  add_outputs(pass, branch);
}

void Decoder::add_outputs(Pass& pass, const Branch& branch) const {
  const Kernels& k = kernels();
  for (int64_t t = pass.own.mine.begin; t < pass.own.mine.end; t++) {
    float *to = pass.residual(t), *scaled = pass.context.scaled.data() + static_cast<int64_t>(pass.own.slot(t)) * width();
    for (size_t i = 0; i < branch.members.size(); i++) {
      const Branch::Member& member = branch.members[i];
      const float* output = pass.context.outputs[i].data() + t * width();
      if (!member.norm.empty()) {
        k.rms_norm(output, member.norm.data(), width(), norm_eps_, scaled);
        output = scaled;
      }
      if (branch.scale != 1.0f) {
        std::transform(output, output + width(), scaled, [&](float v) { return v * branch.scale; });
        output = scaled;
      }
      k.add(output, width(), to);
      if (member.input) k.add(pass.context.normed.x(pass.own.slot(t)), width(), to);
    }
    if (branch.sum_scale != 1.0f)
      for (int i = 0; i < width(); i++) to[i] *= branch.sum_scale;
  }
}

}  // namespace shortlist
