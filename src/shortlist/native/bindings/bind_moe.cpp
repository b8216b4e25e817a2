// Mixtures of experts in the Python module.
#include "bindings/bind_arrays.hpp"
#include "kernels/kernels.hpp"
#include "blocks/moe.hpp"

namespace shortlist {

namespace {

// (gate, up, down), of which gate is None in a block without one.
Expert expert_of(const nb::tuple& block) {
  if (block.size() != 3) throw std::invalid_argument("an expert is (gate, up, down)");
  auto matrix = [&](size_t i) { return block[i].is_none() ? Matrix() : nb::cast<Matrix>(block[i]); };
  return {matrix(0), matrix(1), matrix(2)};
}

void check_routed(const Mixture& mixture) {
  if (!mixture.router()) throw std::invalid_argument("a mixture without a router only works in a decoder that has one");
}

}  // namespace

void bind_moe(nb::module_& m) {
  nb::class_<Mixture>(m, "Mixture", "A feed-forward layer of experts, of which a token computes those that its router chooses.")
      .def(
          "__init__",
          [](Mixture* self, Matrix router, const nb::list& experts, int per_token, bool normalize, float margin, const std::string& activation,
             const std::optional<nb::tuple>& shared, Matrix shared_gate, Matrix router_hidden, const std::optional<In1<float>>& router_hidden_bias,
             const std::optional<In1<float>>& router_bias, const std::optional<In1<float>>& router_price) {
            auto vector = [](const std::optional<In1<float>>& values) { return values ? to_vector(*values) : Vector(); };
            std::optional<Router> rule;
            if (router) rule = Router{std::move(router), per_token, normalize, margin, std::move(router_hidden), vector(router_hidden_bias), vector(router_bias), vector(router_price)};
            std::vector<Expert> blocks;
            for (nb::handle block : experts) blocks.push_back(expert_of(nb::cast<nb::tuple>(block)));
            std::optional<Expert> always;
            if (shared) always = expert_of(*shared);
            new (self) Mixture(std::move(rule), std::move(blocks), std::move(always), std::move(shared_gate), activation_named(activation));
          },
          nb::kw_only(), "router"_a.none(), "experts"_a, "per_token"_a, "normalize"_a = false, "margin"_a = 0.0f, "activation"_a, "shared"_a = nb::none(),
          "shared_gate"_a = nb::none(), "router_hidden"_a = nb::none(), "router_hidden_bias"_a = nb::none(), "router_bias"_a = nb::none(), "router_price"_a = nb::none(),
          "Experts are tuples (gate, up, down) of matrices by row, and so is the shared one; routers and `shared_gate` are floats. Without `per_token` all "
          "experts are chosen whose score is at least the largest plus `margin`; without a router one, by the decoder's. `router_price` is taken off the scores "
          "for the choice, not for the weights.")
      .def_prop_ro("expert_bytes", &Mixture::expert_bytes, "Packed bytes of one expert.")
      .def_prop_ro("per_token", &Mixture::per_token, "Experts that a token computes; 0: it depends.")
      .def_prop_ro("always_bytes", &Mixture::always_bytes, "Packed bytes of the router and of the shared expert, which every token reads.")
      .def_prop_ro(
          "loads",
          [](const Mixture& mixture) {
            int64_t* out;
            auto result = new_array<int64_t>(mixture.loads().size(), &out);
            std::copy(mixture.loads().begin(), mixture.loads().end(), out);
            return result;
          },
          nb::rv_policy::move, "Tokens that chose each expert so far: int64 [experts].")
      .def(
          "route",
          [](const Mixture& mixture, In2<float> x) {
            check_routed(mixture);
            check_size(x.shape(1), mixture.width(), "x");
            const int tokens = static_cast<int>(x.shape(0)), experts = mixture.experts();
            float* out;
            auto result = new_array<float>(x.shape(0), static_cast<size_t>(experts), &out);
            if (!tokens) return result;
            nb::gil_scoped_release release;
            const Activations inputs(x.data(), tokens, mixture.width());
            MixtureScratch scratch;
            auto reserve = [&](int members) { scratch.reserve(mixture, tokens, members); };
            Pool::instance().run(reserve, [&](Team& team) { mixture.score(team, scratch, inputs.batch(tokens), out); });
            std::vector<Choice> chosen;
            for (int t = 0; t < tokens; t++) {
              float* weights = out + static_cast<size_t>(t) * static_cast<size_t>(experts);
              mixture.router()->choose(weights, chosen);
              std::fill_n(weights, experts, 0.0f);
              for (const Choice& choice : chosen) weights[choice.expert] = choice.weight;
            }
            return result;
          },
          "x"_a, "The weights of the experts that tokens [n, width] choose, zero for the others: float32 [n, experts].")
      .def(
          "forward",
          [](Mixture& mixture, In2<float> x) {
            check_routed(mixture);
            check_size(x.shape(1), mixture.width(), "x");
            const int tokens = static_cast<int>(x.shape(0));
            float* out;
            auto result = new_array<float>(x.shape(0), x.shape(1), &out);
            if (!tokens) return result;
            nb::gil_scoped_release release;
            const Activations inputs(x.data(), tokens, mixture.width());
            MixtureScratch scratch;
            auto reserve = [&](int members) { scratch.reserve(mixture, tokens, members); };
            Pool::instance().run(reserve, [&](Team& team) { mixture.run(team, scratch, inputs.batch(tokens), out, nullptr); });
            return result;
          },
          "x"_a, "What the mixture makes of tokens [n, width]: float32 [n, width].");
}

}  // namespace shortlist
