// The blocks of a decoder in the Python module.
#include "bindings/bind_arrays.hpp"
#include "bindings/bind_parts.hpp"
#include "blocks/altup.hpp"
#include "blocks/attention.hpp"
#include "blocks/ffn.hpp"
#include "blocks/laurel.hpp"

namespace shortlist {

namespace {

void bind_attention(nb::module_& m) {
  nb::class_<Attention, Block>(m, "Attention", "Attention over the keys and values of a sequence.")
      .def(
          "__init__",
          [](Attention* self, const nb::dict& matrices, const nb::dict& vectors, int heads, int kv_heads, int head_dim, float scale,
              float norm_eps,
             int window, std::shared_ptr<Rope> rope, std::shared_ptr<Attention> source, const nb::dict& inputs) {
            const Given given{matrices, vectors, inputs};
            AttentionParts p;
            p.heads = heads, p.kv_heads = kv_heads, p.head_dim = head_dim, p.scale = scale, p.norm_eps = norm_eps, p.window = window;
            p.q = given.linear("q"), p.k = given.linear("k"), p.v = given.linear("v"), p.o = given.linear("o");
            p.q_bias = given.vector("q_bias"), p.k_bias = given.vector("k_bias"), p.v_bias = given.vector("v_bias"),
                p.o_bias = given.vector("o_bias");
            p.q_norm = given.vector("q_norm"), p.k_norm = given.vector("k_norm"), p.v_norm = given.vector("v_norm");
            p.qkv_input = given.input("qkv"), p.o_input = given.input("o"), p.rope = std::move(rope);
            given.check_names({"q", "k", "v", "o"}, {"q_bias", "k_bias", "v_bias", "o_bias", "q_norm", "k_norm", "v_norm"}, {"qkv", "o"});
            new (self) Attention(std::move(p), std::move(source));
          },
          "matrices"_a, "vectors"_a, nb::kw_only(), "heads"_a, "kv_heads"_a, "head_dim"_a, "scale"_a, "norm_eps"_a, "window"_a = 0,
          "rope"_a = nb::none(),
          "source"_a = nb::none(), "inputs"_a = nb::dict(),
          "`matrices` are q, k, v and o; `vectors` their biases and the norms q_norm, k_norm and v_norm, those that there are. `window` is "
          "the number of latest "
          "positions that a token sees, 0: all. Without `rope` queries and keys do not turn. Without k and v it attends to the keys and "
          "values of `source`. "
          "`inputs` (qkv, o) are the shortlists of matrices by channel.");
}

void bind_ffn(nb::module_& m) {
  nb::class_<Ffn, Block>(m, "Ffn", "A feed-forward block of which every token reads all neurons.")
      .def(
          "__init__",
          [](Ffn* self, const nb::dict& matrices, const nb::dict& vectors, const std::string& activation, std::optional<float> cutoff,
              const nb::dict& inputs) {
            const Given given{matrices, vectors, inputs};
            FfnParts p;
            p.gate = given.linear("gate"), p.up = given.linear("up"), p.down = given.linear("down");
            p.gate_bias = given.vector("gate_bias"), p.up_bias = given.vector("up_bias"), p.down_bias = given.vector("down_bias");
            p.gate_up_input = given.input("gate_up"), p.down_input = given.input("down");
            p.activation = activation_named(activation), p.cutoff = cutoff;
            given.check_names({"gate", "up", "down"}, {"gate_bias", "up_bias", "down_bias"}, {"gate_up", "down"});
            new (self) Ffn(std::move(p));
          },
          "matrices"_a, "vectors"_a = nb::dict(), nb::kw_only(), "activation"_a, "cutoff"_a = nb::none(), "inputs"_a = nb::dict(),
          "`matrices` are gate, up and down, `vectors` their biases; without a gate, the activation is applied to up. `cutoff` sets gates "
          "to zero that lie "
          "below their mean plus so many of their deviations. `inputs` (gate_up, down) are the shortlists of matrices by channel.");

  nb::class_<NeuronFfn, Block>(m, "NeuronFfn", "A feed-forward block of which a token reads the neurons that its scores leave.")
      .def(
          "__init__",
          [](NeuronFfn* self, const Matrix& scores, std::shared_ptr<Neurons> neurons, const std::optional<In1<float>>& margin,
              const std::string& activation,
             std::optional<float> cutoff) {
            new (self) NeuronFfn({scores, margin ? to_vector(*margin) : Vector(), std::move(neurons)}, activation_named(activation),
                cutoff);
          },
          "scores"_a, "neurons"_a, nb::kw_only(), "margin"_a = nb::none(), "activation"_a, "cutoff"_a = nb::none(),
          "`scores` are the gates (the ups, without gates), or with `margin` estimates of them. `cutoff` as in Ffn.")
      .def_prop_ro("neurons", &NeuronFfn::neurons)
      .def_prop_ro("neurons_read", &NeuronFfn::neurons_read, "Neurons whose rows were read, over all tokens so far.");

  nb::class_<Laurel, Block>(m, "Laurel", "A low-rank map beside another block.")
      .def(
          "__init__", [](Laurel* self, const Matrix& left, const Matrix& right) { new (self) Laurel({left}, {right}); }, "left"_a,
          "right"_a,
          "right (left x), of shapes [rank, width] and [width, rank].");
}

void bind_altup(nb::module_& m) {
  nb::class_<Streams>(m, "Streams", "How several residual streams are combined around layers.")
      .def_prop_ro("nbytes", [](const Streams& s) { return s.bytes().packed; });
  nb::class_<AltUp, Streams>(m, "AltUp", "Several residual streams, and an input of its own for every layer.")
      .def(
          "__init__",
          [](AltUp* self, int width, int active, float norm_eps, const std::string& activation, std::vector<Matrix> expand,
              std::vector<Matrix> merge,
             Matrix table, Matrix projection, In1<float> norm, const nb::list& layers) {
            std::vector<AltUpLayer> each;
            for (nb::handle layer : layers) {
              const auto pair = nb::cast<nb::tuple>(layer);
              if (pair.size() != 2) throw std::invalid_argument("a layer of streams is (matrices, vectors)");
              const Given given{nb::cast<nb::dict>(pair[0]), nb::cast<nb::dict>(pair[1]), {}};
              each.push_back({given.vector("altup_router"), given.vector("altup_predict"), given.vector("altup_correct"),
                  given.vector("altup_scale"),
                              {given.linear("input_gate"), given.linear("input_up"), given.vector("input_norm")}});
            }
            LayerInputs inputs(std::move(table), std::move(projection), to_vector(norm), width, norm_eps);
            new (self) AltUp(width, active, norm_eps, activation_named(activation), std::move(expand), std::move(merge), std::move(inputs),
                std::move(each));
          },
          nb::kw_only(), "width"_a, "active"_a, "norm_eps"_a, "activation"_a, "expand"_a, "merge"_a, "table"_a, "projection"_a, "norm"_a,
              "layers"_a,
          "`expand` and `merge` hold a matrix for each stream but the first, `table`, `projection` and `norm` make the layers' inputs, and "
          "`layers` are "
          "(matrices, vectors) of each.");
}

void bind_branch(nb::module_& m) {
  nb::class_<Branch>(m, "Branch", "Adds to the residual stream what blocks make of it.")
      .def(
          "__init__",
          [](Branch* self, const nb::list& members, const std::optional<In1<float>>& norm, float scale, float sum_scale) {
            auto vector = [](nb::handle values) { return values.is_none() ? Vector() : to_vector(nb::cast<In1<float>>(values)); };
            Branch branch;
            for (nb::handle each : members) {
              const auto member = nb::cast<nb::tuple>(each);
              if (member.size() != 3)
                throw std::invalid_argument("a member of a branch is (block, norm of its output, whether its input is added)");
              branch.members.push_back({nb::cast<std::shared_ptr<Block>>(member[0]), vector(member[1]), nb::cast<bool>(member[2])});
            }
            if (norm) branch.norm = to_vector(*norm);
            branch.scale = scale, branch.sum_scale = sum_scale;
            new (self) Branch(std::move(branch));
          },
          "members"_a, nb::kw_only(), "norm"_a = nb::none(), "scale"_a = 1.0f, "sum_scale"_a = 1.0f,
          "residual = (residual + scale * sum of the blocks of norm(residual)) * sum_scale. A member is a tuple: the block, the norm of "
          "its output or None, and "
          "whether its normed input is added too.")
      .def_prop_ro(
          "blocks",
          [](const Branch& branch) {
            std::vector<std::shared_ptr<Block>> blocks;
            for (const Branch::Member& member : branch.members) blocks.push_back(member.block);
            return blocks;
          },
          "The blocks of its members.");
}

}  // namespace

void bind_blocks(nb::module_& m) {
  nb::class_<Prelude>(m, "Prelude", "What several blocks need, computed once for each pass.");
  nb::class_<Rope, Prelude>(m, "Rope", "The angles by which queries and keys turn.")
      .def(
          "__init__", [](Rope* self, const Vector& frequencies, float scale) { new (self) Rope(frequencies, scale); }, "frequencies"_a,
          "scale"_a = 1.0f,
          "Angles per position of pairs (i, i + n) of a head, and what turned values are multiplied by. The dimensions beyond 2 n stay.");
  nb::class_<Block>(m, "Block", "A part of a layer: it belongs to one layer of one decoder.")
      .def_prop_ro("nbytes", [](const Block& b) { return b.bytes().packed; }, "Packed bytes of its weights.");
  bind_attention(m);
  bind_ffn(m);
  bind_altup(m);
  bind_branch(m);
}

}  // namespace shortlist
