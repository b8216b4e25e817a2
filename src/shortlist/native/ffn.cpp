// The feed-forward part of a layer: dense, or only the neurons on a shortlist.
#include <stdexcept>

#include "decoder.hpp"

namespace shortlist {

void Decoder::check_ffn(const Layer& layer) const {
  const Config& c = config_;
  if (layer.mixture) {
    if (layer.mixture->width() != c.width) throw std::invalid_argument("a mixture of experts has the wrong width");
    return;
  }
  if (!layer.ffn) {
    if (layer.gate || !has_zeros(c.activation)) check_matrix(layer.gate, c.ffn_width, c.width, "gate");
    check_matrix(layer.up, c.ffn_width, c.width, "up");
    check_matrix(layer.down, c.width, c.ffn_width, "down");
    return;
  }
  const ShortlistedFfn& ffn = *layer.ffn;
  check_matrix({ffn.scores}, c.ffn_width, c.width, "scores");
  if (!has_zeros(c.activation)) throw std::invalid_argument("neurons can be left out of a layer only if its activation has exact zeros");
  if (!ffn.neurons || ffn.neurons->count() != c.ffn_width || ffn.neurons->down.cols != c.width)
    throw std::invalid_argument("the neurons of a layer have the wrong shape");
  if (!ffn.estimated()) return;
  if (ffn.margin.size() != static_cast<size_t>(c.ffn_width) || !(ffn.neurons->gate.rows || ffn.neurons->up.rows))
    throw std::invalid_argument("estimated scores need a margin for each neuron, and the rows that they estimate");
}

void Decoder::dense_ffn(Team& team, const Layer& layer, const Batch& normed, int count, const Rows* next) {
  const size_t ffn = static_cast<size_t>(config_.ffn_width);
  std::vector<uint8_t>& scratch = scratch_[static_cast<size_t>(team.id)];
  const Input x = choose(team, layer.gate_up_input.get(), normed);
  if (layer.gate) multiply(team, layer.gate, x, gate_.data(), ffn, scratch, layer.up.rows.get());
  const auto share = multiply(team, layer.up, x, up_.data(), ffn, scratch, layer.down.rows.get());
  for (int t = 0; t < count; t++) {
    const size_t at = static_cast<size_t>(t) * ffn + static_cast<size_t>(share.begin);
    activate(config_.activation, layer.gate ? &gate_[at] : &up_[at], layer.gate ? &up_[at] : nullptr, static_cast<int>(share.end - share.begin),
             hidden_.x(t) + share.begin);
    hidden_.quantize(t, share.begin, share.end);
  }
  team.barrier();
  const Input hidden = choose(team, layer.down_input.get(), hidden_.batch(count));
  multiply(team, layer.down, hidden, projected_.data(), static_cast<size_t>(config_.width), scratch, next);
  team.barrier();
}

void Decoder::shortlisted_ffn(Team& team, const ShortlistedFfn& ffn, const Batch& x, int count, const Rows* next) {
  const size_t width = static_cast<size_t>(config_.ffn_width);
  multiply(team, {ffn.scores}, {x}, gate_.data(), width, scratch_[static_cast<size_t>(team.id)], nullptr);
  team.barrier();

  // As in run(): one token's list is made by every member for itself.
  const bool alone = count == 1;
  const auto mine = alone ? Team::Range{0, 1} : team.share(count);
  auto slot = [&](int64_t t) { return static_cast<size_t>(alone ? team.id : t); };
  for (int64_t t = mine.begin; t < mine.end; t++) {
    int32_t* list = &listed_[slot(t) * width];
    const float* scores = &gate_[static_cast<size_t>(t) * width];
    const int64_t listed = listed_counts_[slot(t)] = ffn.list(x.token(static_cast<int>(t)), scores, list);
    if (ffn.estimated()) continue;
    float* gates = &up_[slot(t) * width];  // free, as coefficients go to gate_
    for (int64_t i = 0; i < listed; i++) gates[i] = scores[list[i]];
  }
  team.barrier();

  for (int t = 0; t < count; t++) {
    const size_t at = slot(t) * width;
    neuron_coefficients(team, *ffn.neurons, x.token(t), config_.activation, &listed_[at], listed_counts_[slot(t)],
                        ffn.estimated() ? nullptr : &up_[at], &gate_[static_cast<size_t>(t) * width]);
  }
  team.barrier();
  for (int t = 0; t < count; t++) {
    neuron_sum(team, *ffn.neurons, &listed_[slot(t) * width], listed_counts_[slot(t)], &gate_[static_cast<size_t>(t) * width],
               projected_.data() + static_cast<size_t>(t) * static_cast<size_t>(config_.width));
    if (team.id == 0) neurons_read_ += listed_counts_[slot(t)];
  }
  if (next) fetch_start(team, *next);
  team.barrier();
}

}  // namespace shortlist
