// Draws of tokens in the Python module.
#include <algorithm>

#include "bindings/bind_arrays.hpp"
#include "sites/sampling.hpp"

namespace shortlist {

namespace {

// The settings of one text, and the arrays that they refer to.
struct Asked {
  Sampling settings;
  std::optional<In1<bool>> seen, allowed;
  std::optional<In1<float>> offsets;

  Sampling of(int64_t rows) const {
    auto check = [rows](const auto& array, const char* what) {
      if (array) check_size(array->shape(0), rows, what);
    };
    check(seen, "seen"), check(allowed, "allowed"), check(offsets, "offsets");
    return settings;
  }
};

nb::list of_draws(const std::vector<Drawn>& draws) {
  nb::list all;
  for (const Drawn& d : draws) all.append(nb::make_tuple(d.token, d.rows));
  return all;
}

nb::tuple from_bounds(In1<float> lower, In1<float> upper, In1<float> logits, const Asked& asked, int members) {
  const int64_t rows = static_cast<int64_t>(logits.shape(0));
  check_size(lower.shape(0), rows, "lower"), check_size(upper.shape(0), rows, "upper");
  if (members < 1) throw std::invalid_argument("at least one member is needed");
  std::vector<int32_t> listed;
  const Lot::Reader read = [&](const int32_t* wanted, int64_t count, float* values) {
    listed.insert(listed.end(), wanted, wanted + count);
    for (int64_t i = 0; i < count; i++) values[i] = logits.data()[wanted[i]];
  };
  Lot lot(asked.of(rows), !std::equal(lower.data(), lower.data() + rows, upper.data()));
  lot.seat(members);
  const int64_t block = std::min(Lot::kMost, (rows + members - 1) / members);
  for (int64_t at = 0; at < rows; at += block) {
    const int64_t n = std::min(block, rows - at);
    float low[Lot::kMost], high[Lot::kMost];
    std::copy_n(lower.data() + at, n, low);
    std::copy_n(upper.data() + at, n, high);
    lot.take(static_cast<int>(at / block % members), low, high, at, n, read);
  }
  const Drawn d = lot.settle(read);
  return nb::make_tuple(d.token, listed);
}

}  // namespace

void bind_sampling(nb::module_& m) {
  nb::class_<Asked>(m, "Sampling", "What is asked of the next token of one text.")
      .def(
          "__init__",
          [](Asked* self, double temperature, int64_t top_k, double top_p, double log_min_p, uint64_t seed, uint64_t position, float cap,
             std::optional<In1<bool>> seen, float penalty, std::optional<In1<float>> offsets, std::optional<In1<bool>> allowed) {
            Sampling s{temperature, top_k, top_p, log_min_p, seed, position, cap, nullptr, penalty, nullptr, nullptr};
            s.seen = seen ? seen->data() : nullptr, s.offsets = offsets ? offsets->data() : nullptr,
                s.allowed = allowed ? allowed->data() : nullptr;
            new (self) Asked{s, seen, allowed, offsets};
          },
          nb::kw_only(), "temperature"_a, "top_k"_a, "top_p"_a, "log_min_p"_a, "seed"_a, "position"_a, "cap"_a, "seen"_a.none(),
              "penalty"_a,
          "offsets"_a.none(), "allowed"_a.none());
  m.def(
      "sample",
      [](const Head& head, In2<float> hidden, const std::vector<const Asked*>& asked, bool bounded) {
        check_size(hidden.shape(1), head.rows().view.cols, "a hidden state");
        std::vector<Sampling> settings;
        for (const Asked* each : asked) settings.push_back(each->of(head.rows().view.rows));
        std::vector<Drawn> draws;
        {
          nb::gil_scoped_release release;
          draws = sample(head, Query(hidden.data(), static_cast<int>(hidden.shape(0)), head.rows().view.cols), settings, bounded);
        }
        return of_draws(draws);
      },
      "head"_a, "hidden"_a, "asked"_a, "bounded"_a,
      "(token, rows read whole) for each of hidden [n, width]; token -1: bounds do not settle it. `bounded`: from the upper planes of "
      "8-bit rows.");
  m.def(
      "sample_from_bounds",
      from_bounds,
      "lower"_a, "upper"_a, "logits"_a, "asked"_a, "members"_a = 1,
      "(token, rows read) of the same draw from given bounds [rows] of given logits.");
  m.def(
      "softcap",
      [](In1<float> logits, float cap) {
        float* out;
        auto result = new_array<float>(logits.shape(0), &out);
        nb::gil_scoped_release release;
        Pool::instance().run([&](Team& team) {
          const auto share = team.share(static_cast<int64_t>(logits.shape(0)), 1024);
          for (int64_t i = share.begin; i < share.end; i++) out[i] = softcap(logits.data()[i], cap);
        });
        return result;
      },
      "logits"_a, "cap"_a, "cap * tanh(logits / cap), float32 [n].");
}

}  // namespace shortlist
