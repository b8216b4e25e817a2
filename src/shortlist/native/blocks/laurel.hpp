// Learned augmented residual layer (LAuReL, low-rank form: https://arxiv.org/abs/2411.07501): beside what attention adds, a low-rank
// map of attention's own input x joins the residual stream,
//
//   residual = (residual + attention(x) + x + norm(right (left x))) / sqrt(2)
//
// which halves the energy of what is twice as much. The block is right (left x); the branch that holds it has the rest.
#pragma once
#include "blocks/block.hpp"

namespace shortlist {

class Laurel : public Block {
 public:
  // [rank, width], [width, rank]. Throws std::invalid_argument where they do not fit.
  Laurel(Linear left, Linear right);
  int width() const override { return static_cast<int>(left_.inputs()); }
  Bytes bytes() const override { return Bytes::whole(left_.bytes() + right_.bytes()); }
  void reserve(Context& context) const override;
  void inner(Pass& pass, const Batch& x) override;
  void output(Pass& pass, float* out, const Rows* next) override;
  const Rows* first() const override { return left_.rows.get(); }

 private:
  struct Scratch {
    explicit Scratch(const Sizes& sizes) : narrow(static_cast<int>(sizes[0])) {}
    Vector low;
    Activations narrow;
  };
  int rank() const { return static_cast<int>(left_.outputs()); }
  Sizes sizes() const { return {rank()}; }

  Linear left_, right_;
};

}  // namespace shortlist
