// Learned augmented residual layer (LAuReL, low-rank form: https://arxiv.org/abs/2411.07501), as Gemma 3n has it around attention: beside
// what attention adds, a low-rank map of attention's own input x joins the residual stream,
//
//   residual = (residual + attention(x) + x + norm(right (left x))) / sqrt(2)
//
// which halves the energy of what is twice as much.
#pragma once
#include "blocks/linear.hpp"

namespace shortlist {

struct LaurelLayer {
  Linear left, right;  // [rank, width], [width, rank]
  Vector norm;

  explicit operator bool() const { return !norm.empty(); }
};

// The steps of one layer, beside those of attention, so that both share their barriers: a barrier between left and right, and
// between right and add.
class Laurel {
 public:
  Laurel(int rank, int width, float eps) : rank_(rank), width_(width), eps_(eps), narrow_(rank) {}
  void reserve(int slots);
  // Throws std::invalid_argument where a tensor of the layer has another shape.
  void check(const LaurelLayer& layer) const;

  void left(Team& team, const LaurelLayer& layer, const Input& x);
  void right(const OwnTokens& own, const LaurelLayer& layer);
  // Adds x and its map to the residual stream, [slots, width].
  void add(const OwnTokens& own, const LaurelLayer& layer, Activations& x, float* residual);
  // Divides it by sqrt(2), when attention is added too.
  void halve(const OwnTokens& own, float* residual) const;

 private:
  int rank_, width_;
  float eps_;
  Activations narrow_;
  Vector low_, wide_, normed_;
};

}  // namespace shortlist
