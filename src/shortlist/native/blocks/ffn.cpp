#include "blocks/ffn.hpp"

#include <algorithm>
#include <stdexcept>

#include "kernels/kernels.hpp"

namespace shortlist {

// ---- all neurons --------------------------------------------------------------------------------------------------

Ffn::Ffn(FfnParts parts) : p_(std::move(parts)) {
  if (!p_.up) throw std::invalid_argument("a layer needs an FFN: 'up' is missing");
  if (p_.gate || p_.cutoff || !has_zeros(p_.activation)) check_matrix(p_.gate, neurons(), width(), "gate", p_.gate_up_input.get());
  check_matrix(p_.up, neurons(), width(), "up", p_.gate_up_input.get());
  check_matrix(p_.down, width(), neurons(), "down", p_.down_input.get());
  if (!p_.gate_bias.empty()) check_vector(p_.gate_bias, neurons(), "gate_bias");
  if (!p_.up_bias.empty()) check_vector(p_.up_bias, neurons(), "up_bias");
  if (!p_.down_bias.empty()) check_vector(p_.down_bias, width(), "down_bias");
  if (p_.gate_up_input) p_.gate_up_input->serve({&p_.gate, &p_.up});
  if (p_.down_input) p_.down_input->serve({&p_.down});
}

Bytes Ffn::bytes() const {
  Bytes sum = Bytes::whole(p_.gate.bytes() + p_.up.bytes() + p_.down.bytes());
  for (const auto& input : {p_.gate_up_input, p_.down_input})
    if (input) sum += channel_bytes(*input);
  return sum;
}

void Ffn::reserve(Context& context) const {
  Scratch& s = context.make<Scratch>(sizes());
  const size_t n = static_cast<size_t>(context.slots());
  for (Vector* v : {&s.gate, &s.up}) grow(*v, n * static_cast<size_t>(neurons()));
  grow(s.cutoffs, n);
  s.hidden.reserve(context.slots());
  s.chosen.resize(std::max(s.chosen.size(), n));
}

void Ffn::inner(Pass& pass, const Batch& normed) {
  Scratch& s = pass.context.get<Scratch>(sizes());
  const size_t n = static_cast<size_t>(neurons());
  const Input x = choose(pass.team, p_.gate_up_input.get(), normed, s.chosen);
  if (p_.gate) multiply(pass.team, p_.gate, x, s.gate.data(), n, p_.up.rows.get(), p_.gate_bias);
  const auto share = multiply(pass.team, p_.up, x, s.up.data(), n, p_.down.rows.get(), p_.up_bias);
  if (p_.cutoff) {
    pass.team.barrier();
    for (int64_t t = pass.own.mine.begin; t < pass.own.mine.end; t++)
      s.cutoffs[static_cast<size_t>(pass.own.slot(t))] = statistical_cutoff(&s.gate[static_cast<size_t>(t) * n], neurons(), *p_.cutoff);
    pass.own.barrier();
  }
  activate_share(pass, s, share);
}

// This member's share of the neurons: what it multiplied itself, so that nobody waits.
void Ffn::activate_share(Pass& pass, Scratch& s, Team::Range share) const {
  const int n = static_cast<int>(share.end - share.begin);
  for (int t = 0; t < pass.context.count; t++) {
    const size_t at = static_cast<size_t>(t) * static_cast<size_t>(neurons()) + static_cast<size_t>(share.begin);
    float* to = s.hidden.x(t) + share.begin;
    const float* gate = (p_.gate ? s.gate : s.up).data() + at;
    if (p_.cutoff) {  // not in place, as others may still take their cutoff from these gates
      const float cutoff = s.cutoffs[static_cast<size_t>(pass.own.slot(t))];
      for (int i = 0; i < n; i++) to[i] = gate[i] <= cutoff ? 0.0f : gate[i] - cutoff;  // NaN stays NaN
      gate = to;
    }
    activate(p_.activation, gate, p_.gate ? s.up.data() + at : nullptr, n, to);
    s.hidden.quantize(t, share.begin, share.end);
  }
}

void Ffn::output(Pass& pass, float* out, const Rows* next) {
  Scratch& s = pass.context.get<Scratch>(sizes());
  const Input hidden = choose(pass.team, p_.down_input.get(), s.hidden.batch(pass.context.count), s.chosen);
  multiply(pass.team, p_.down, hidden, out, static_cast<size_t>(width()), next, p_.down_bias);
}

// ---- neurons on a shortlist ---------------------------------------------------------------------------------------

NeuronFfn::NeuronFfn(ShortlistedFfn ffn, Activation activation, std::optional<float> cutoff)
    : ffn_(std::move(ffn)), activation_(activation), cutoff_(cutoff) {
  if (!ffn_.neurons) throw std::invalid_argument("a layer needs an FFN: its neurons are missing");
  check_matrix({ffn_.scores}, neurons(), width(), "scores");
  if (!cutoff_ && !has_zeros(activation_)) throw std::invalid_argument("neurons can be left out of a layer only if its activation has exact zeros");
  if (!ffn_.estimated()) return;
  if (cutoff_) throw std::invalid_argument("a cutoff is that of exact gates, not of estimates");
  if (ffn_.margin.size() != static_cast<size_t>(neurons()) || !(ffn_.neurons->gate.rows || ffn_.neurons->up.rows))
    throw std::invalid_argument("estimated scores need a margin for each neuron, and the rows that they estimate");
}

Bytes NeuronFfn::bytes() const {
  const size_t scores = ffn_.scores->bytes(), rows = ffn_.neurons->bytes();
  return {scores + rows, scores, rows, neurons_read_ * static_cast<int64_t>(ffn_.neurons->bytes_each())};
}

void NeuronFfn::reserve(Context& context) const {
  Scratch& s = context.make<Scratch>(sizes());
  const size_t n = static_cast<size_t>(context.slots()), all = n * static_cast<size_t>(neurons());
  for (Vector* v : {&s.gate, &s.up}) grow(*v, all);
  s.listed.resize(std::max(s.listed.size(), all));
  s.counts.resize(std::max(s.counts.size(), n));
}

void NeuronFfn::inner(Pass& pass, const Batch& x) {
  Scratch& s = pass.context.get<Scratch>(sizes());
  const size_t n = static_cast<size_t>(neurons());
  multiply(pass.team, {ffn_.scores}, {x}, s.gate.data(), n, nullptr);
  pass.team.barrier();
  list(pass, s, x);
  pass.team.barrier();
  for (int t = 0; t < pass.context.count; t++) {
    const size_t slot = static_cast<size_t>(pass.own.slot(t));
    neuron_coefficients(pass.team, *ffn_.neurons, x.token(t), activation_, &s.listed[slot * n], s.counts[slot],
                        ffn_.estimated() ? nullptr : &s.up[slot * n], &s.gate[static_cast<size_t>(t) * n]);
  }
}

void NeuronFfn::list(Pass& pass, Scratch& s, const Batch& x) const {
  const size_t n = static_cast<size_t>(neurons());
  for (int64_t t = pass.own.mine.begin; t < pass.own.mine.end; t++) {
    const size_t slot = static_cast<size_t>(pass.own.slot(t));
    int32_t* list = &s.listed[slot * n];
    const float* scores = &s.gate[static_cast<size_t>(t) * n];
    const float cutoff = cutoff_ ? statistical_cutoff(scores, neurons(), *cutoff_) : 0.0f;
    const int64_t listed = s.counts[slot] = ffn_.list(x.token(static_cast<int>(t)), scores, cutoff, list);
    if (ffn_.estimated()) continue;
    float* gates = &s.up[slot * n];  // free, as coefficients go to gate
    for (int64_t i = 0; i < listed; i++) gates[i] = scores[list[i]] - cutoff;
  }
}

void NeuronFfn::output(Pass& pass, float* out, const Rows* next) {
  Scratch& s = pass.context.get<Scratch>(sizes());
  const size_t n = static_cast<size_t>(neurons());
  for (int t = 0; t < pass.context.count; t++) {
    const size_t slot = static_cast<size_t>(pass.own.slot(t));
    neuron_sum(pass.team, *ffn_.neurons, &s.listed[slot * n], s.counts[slot], &s.gate[static_cast<size_t>(t) * n],
               out + static_cast<size_t>(t) * static_cast<size_t>(width()));
    if (pass.team.id == 0) neurons_read_ += s.counts[slot];
  }
  if (next) fetch_start(pass.team, *next);
}

}  // namespace shortlist
