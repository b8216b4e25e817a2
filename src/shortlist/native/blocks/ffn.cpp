// The feed-forward part of a layer: dense, or only the neurons on a shortlist.
#include <stdexcept>

#include "blocks/decoder.hpp"

namespace shortlist {

void Decoder::check_ffn(const Layer& layer) const {
  const Config& c = config_;
  if (layer.mixture) {
    if (layer.mixture->width() != c.width) throw std::invalid_argument("a mixture of experts has the wrong width");
    for (const Layer& other : layers_)
      if (other.mixture && !other.mixture->shares_scratch_with(*layer.mixture))
        throw std::invalid_argument("the mixtures of a decoder need experts, shared experts and routers of the same widths");
    return;
  }
  if (!(layer.ffn ? static_cast<bool>(layer.ffn->neurons) : static_cast<bool>(layer.up))) throw std::invalid_argument("a layer needs an FFN");
  const int width = layer.ffn_width();
  if (width > c.ffn_width) throw std::invalid_argument("the FFN of a layer is wider than that of the widest");
  if (!layer.ffn) {
    if (layer.gate || layer.cutoff || !has_zeros(c.activation)) check_matrix(layer.gate, width, c.width, "gate", layer.gate_up_input.get());
    check_matrix(layer.up, width, c.width, "up", layer.gate_up_input.get());
    check_matrix(layer.down, c.width, width, "down", layer.down_input.get());
    if (!layer.gate_bias.empty()) check_vector(layer.gate_bias, width, "gate_bias");
    if (!layer.up_bias.empty()) check_vector(layer.up_bias, width, "up_bias");
    if (!layer.down_bias.empty()) check_vector(layer.down_bias, c.width, "down_bias");
    return;
  }
  const ShortlistedFfn& ffn = *layer.ffn;
  check_matrix({ffn.scores}, width, c.width, "scores");
  if (!layer.cutoff && !has_zeros(c.activation))
    throw std::invalid_argument("neurons can be left out of a layer only if its activation has exact zeros");
  if (ffn.neurons->down.cols != c.width) throw std::invalid_argument("the neurons of a layer have the wrong shape");
  if (!ffn.estimated()) return;
  if (layer.cutoff) throw std::invalid_argument("a cutoff is that of exact gates, not of estimates");
  if (ffn.margin.size() != static_cast<size_t>(width) || !(ffn.neurons->gate.rows || ffn.neurons->up.rows))
    throw std::invalid_argument("estimated scores need a margin for each neuron, and the rows that they estimate");
}

void Decoder::dense_ffn(Team& team, const Layer& layer, const Batch& normed, int count, const Rows* next) {
  const size_t ffn = static_cast<size_t>(layer.ffn_width());
  Activations& activated = hidden_.at(layer.ffn_width());
  const OwnTokens own(team, count);
  const Input x = choose(team, layer.gate_up_input.get(), normed);
  if (layer.gate) multiply(team, layer.gate, x, gate_.data(), ffn, layer.up.rows.get(), layer.gate_bias);
  const auto share = multiply(team, layer.up, x, up_.data(), ffn, layer.down.rows.get(), layer.up_bias);
  if (layer.cutoff) {
    team.barrier();
    for (int64_t t = own.mine.begin; t < own.mine.end; t++)
      cutoffs_[static_cast<size_t>(own.slot(t))] = statistical_cutoff(&gate_[static_cast<size_t>(t) * ffn], static_cast<int64_t>(ffn), *layer.cutoff);
    own.barrier();
  }
  for (int t = 0; t < count; t++) {
    const size_t at = static_cast<size_t>(t) * ffn + static_cast<size_t>(share.begin);
    const int n = static_cast<int>(share.end - share.begin);
    float* to = activated.x(t) + share.begin;
    const float* gate = layer.gate ? &gate_[at] : &up_[at];
    if (layer.cutoff) {  // not in place, as others may still take their cutoff from these gates
      const float cutoff = cutoffs_[static_cast<size_t>(own.slot(t))];
      for (int i = 0; i < n; i++) to[i] = gate[i] <= cutoff ? 0.0f : gate[i] - cutoff;  // NaN stays NaN
      gate = to;
    }
    activate(config_.activation, gate, layer.gate ? &up_[at] : nullptr, n, to);
    activated.quantize(t, share.begin, share.end);
  }
  team.barrier();
  const Input hidden = choose(team, layer.down_input.get(), activated.batch(count));
  multiply(team, layer.down, hidden, projected_.data(), static_cast<size_t>(config_.width), next, layer.down_bias);
  team.barrier();
}

void Decoder::shortlisted_ffn(Team& team, const Layer& layer, const Batch& x, int count, const Rows* next) {
  const ShortlistedFfn& ffn = *layer.ffn;
  const size_t width = static_cast<size_t>(layer.ffn_width());
  multiply(team, {ffn.scores}, {x}, gate_.data(), width, nullptr);
  team.barrier();

  const OwnTokens own(team, count);
  auto slot = [&](int64_t t) { return static_cast<size_t>(own.slot(t)); };
  for (int64_t t = own.mine.begin; t < own.mine.end; t++) {
    int32_t* list = &listed_[slot(t) * width];
    const float* scores = &gate_[static_cast<size_t>(t) * width];
    const float cutoff = layer.cutoff ? statistical_cutoff(scores, static_cast<int64_t>(width), *layer.cutoff) : 0.0f;
    const int64_t listed = listed_counts_[slot(t)] = ffn.list(x.token(static_cast<int>(t)), scores, cutoff, list);
    if (ffn.estimated()) continue;
    float* gates = &up_[slot(t) * width];  // free, as coefficients go to gate_
    for (int64_t i = 0; i < listed; i++) gates[i] = scores[list[i]] - cutoff;
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
