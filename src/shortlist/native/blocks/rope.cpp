#include "blocks/rope.hpp"

#include <cmath>

namespace shortlist {

Rope::Rope(Vector frequencies, float scale) : frequencies_(std::move(frequencies)), scale_(scale) {
  if (frequencies_.empty()) throw std::invalid_argument("RoPE needs at least one frequency");
}

void Rope::reserve(Context& context) const {
  Angles& angles = context.make<Angles>(sizes());
  for (Vector* v : {&angles.cosine, &angles.sine}) grow(*v, static_cast<size_t>(context.count) * frequencies_.size());
}

void Rope::start(Pass& pass) {
  Angles& angles = pass.context.get<Angles>(sizes());
  const auto share = pass.team.share(static_cast<int64_t>(pass.context.count) * size(), 16);
  for (int64_t a = share.begin; a < share.end; a++) {
    const double position = static_cast<double>(pass.context.places[static_cast<size_t>(a / size())].position);
    const double angle = position * static_cast<double>(frequencies_[static_cast<size_t>(a % size())]);
    angles.cosine[static_cast<size_t>(a)] = static_cast<float>(static_cast<double>(scale_) * std::cos(angle));
    angles.sine[static_cast<size_t>(a)] = static_cast<float>(static_cast<double>(scale_) * std::sin(angle));
  }
}

}  // namespace shortlist
