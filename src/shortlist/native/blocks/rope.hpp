// Rotary position embedding: the angles by which queries and keys of one kind of layer turn.
#pragma once
#include "blocks/block.hpp"

namespace shortlist {

class Rope : public Prelude {
 public:
  // The angles per position of pairs (i, i + size) of a head, and what turned values are multiplied by. Dimensions of a head beyond
  // 2 * size stay as they are.
  Rope(Vector frequencies, float scale);
  int size() const { return static_cast<int>(frequencies_.size()); }
  void reserve(Context& context) const override;
  void start(Pass& pass) override;

  struct Angles {
    explicit Angles(const Sizes&) {}
    Vector cosine, sine;  // [tokens, size]
  };
  const Angles& angles(const Context& context) const { return context.get<Angles>(sizes()); }

 private:
  Sizes sizes() const { return {reinterpret_cast<intptr_t>(this)}; }
  Vector frequencies_;
  float scale_;
};

}  // namespace shortlist
