#include "blocks/laurel.hpp"

#include <algorithm>

namespace shortlist {

Laurel::Laurel(Linear left, Linear right) : left_(std::move(left)), right_(std::move(right)) {
  if (!left_.rows) throw std::invalid_argument("layer tensor 'laurel_left' has the wrong shape");
  check_matrix(right_, width(), rank(), "laurel_right");
}

void Laurel::reserve(Context& context) const {
  Scratch& s = context.make<Scratch>(sizes());
  s.narrow.reserve(context.slots());
  grow(s.low, static_cast<size_t>(context.slots()) * static_cast<size_t>(rank()));
}

void Laurel::inner(Pass& pass, const Batch& x) {
  multiply(pass.team, left_, {x}, pass.context.get<Scratch>(sizes()).low.data(), static_cast<size_t>(rank()), nullptr);
}

void Laurel::output(Pass& pass, float* out, const Rows* next) {
  Scratch& s = pass.context.get<Scratch>(sizes());
  for (int64_t t = pass.own.mine.begin; t < pass.own.mine.end; t++) {
    std::copy_n(&s.low[static_cast<size_t>(t * rank())], rank(), s.narrow.x(pass.own.slot(t)));
    s.narrow.quantize(pass.own.slot(t));
  }
  pass.own.barrier();
  multiply(pass.team, right_, {pass.own.batch(s.narrow)}, out, static_cast<size_t>(width()), next);
}

}  // namespace shortlist
