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
  if (!mixture.router()) throw std::invalid_argument("a mixture without a router of its own works in a decoder alone");
}

// Runs work(pass) on the pool for so many tokens that no decoder brings.
template <class Work>
void run_alone(const Mixture& mixture, int tokens, const Work& work) {
  Context context(mixture.width());
  context.count = tokens;
  auto reserve = [&](int members) {
    context.members = members;
    mixture.reserve(context);
  };
  Pool::instance().run(reserve, [&](Team& team) {
    Pass pass(team, context);
    work(pass);
  });
}

}  // namespace

void bind_moe(nb::module_& m) {
  nb::class_<SharedRouter, Prelude>(m, "SharedRouter", "One router for all mixtures of a decoder, which reads nothing but tokens.")
      .def(
          "__init__",
          [](SharedRouter* self, const Matrix& project, In1<float> decay, const Matrix& up, In1<float> up_bias, const Matrix& down,
              In1<float> down_bias) {
            new (self) SharedRouter(project, to_vector(decay), up, to_vector(up_bias), down, to_vector(down_bias));
          },
          nb::kw_only(), "project"_a, "decay"_a, "up"_a, "up_bias"_a, "down"_a, "down_bias"_a);

  nb::class_<Mixture, Block>(m, "Mixture", "A feed-forward layer of experts, of which a token computes those that its router chooses.")
      .def(
          "__init__",
          [](Mixture* self, Matrix router, const nb::list& experts, int per_token, bool normalize, float margin,
              const std::string& activation,
             const std::optional<nb::tuple>& shared, Matrix shared_gate, Matrix router_hidden,
                 const std::optional<In1<float>>& router_hidden_bias,
             const std::optional<In1<float>>& router_bias, const std::optional<In1<float>>& router_price,
                 std::shared_ptr<SharedRouter> router_of_all) {
            auto vector = [](const std::optional<In1<float>>& values) { return values ? to_vector(*values) : Vector(); };
            std::optional<Router> rule;
            if (router) rule = Router{std::move(router), per_token, normalize, margin, std::move(router_hidden),
                vector(router_hidden_bias), vector(router_bias), vector(router_price)};
            std::vector<Expert> blocks;
            for (nb::handle block : experts) blocks.push_back(expert_of(nb::cast<nb::tuple>(block)));
            std::optional<Expert> always;
            if (shared) always = expert_of(*shared);
            new (self) Mixture(std::move(rule), std::move(router_of_all), std::move(blocks), std::move(always), std::move(shared_gate),
                activation_named(activation));
          },
          nb::kw_only(), "router"_a.none(), "experts"_a, "per_token"_a, "normalize"_a = false, "margin"_a = 0.0f, "activation"_a,
              "shared"_a = nb::none(),
          "shared_gate"_a = nb::none(), "router_hidden"_a = nb::none(), "router_hidden_bias"_a = nb::none(), "router_bias"_a = nb::none(),
          "router_price"_a = nb::none(),
          "router_of_all"_a = nb::none(),
          "Experts are tuples (gate, up, down) of matrices by row, and so is the shared one; routers and `shared_gate` are floats. Without "
          "`per_token` all "
          "experts are chosen whose score is at least the largest plus `margin`; without a router the one that `router_of_all` chose. "
          "`router_price` is taken off the scores "
          "for the choice, not for the weights.")
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
            run_alone(mixture, tokens, [&](Pass& pass) { mixture.score(pass, inputs.batch(tokens), out); });
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
            run_alone(mixture, tokens, [&](Pass& pass) {
              mixture.inner(pass, inputs.batch(tokens));
              pass.team.barrier();
              mixture.output(pass, out, nullptr);
            });
            return result;
          },
          "x"_a, "What the mixture makes of tokens [n, width]: float32 [n, width].");
}

}  // namespace shortlist
