// The decoder and its parts in the Python module.
#include <algorithm>
#include <numeric>
#include <set>

#include "bindings/bind_arrays.hpp"
#include "sites/heads.hpp"

namespace shortlist {

void bind_neurons(nb::module_& m) {
  nb::class_<Neurons>(m, "Neurons", "FFN neurons: the gate, up and down rows of each lie together, those that are given.")
      .def(
          "__init__",
          [](Neurons* self, const Rows* gate, const Rows* up, const Rows& down, Arena* arena) {
            nb::gil_scoped_release release;
            Arena own(0);
            new (self) Neurons(gate, up, down, arena ? *arena : own);
          },
          "gate"_a.none(), "up"_a.none(), "down"_a, "arena"_a = nb::none(), "Copies matrices [neurons, width]; `down` is transposed, a row per neuron.")
      .def_static(
          "cutoff",
          [](In1<float> gates, float deviations) {
            if (!gates.shape(0)) throw std::invalid_argument("no gates, no cutoff");
            return statistical_cutoff(gates.data(), static_cast<int64_t>(gates.shape(0)), deviations);
          },
          "gates"_a, "deviations"_a, "Below which the statistical top-k of a layer sets its gates to zero.")
      .def_prop_ro("count", &Neurons::count)
      .def_prop_ro("nbytes", &Neurons::bytes)
      .def_prop_ro("bytes_each", &Neurons::bytes_each)
      .def(
          "forward",
          [](const Neurons& neurons, In1<float> x, In1<int32_t> indices, const std::string& activation) {
            check_size(x.shape(0), neurons.down.cols, "x");
            check_indices(indices, neurons.count());
            const Activation kind = activation_named(activation);
            const bool gated = neurons.gate.rows > 0;
            if (!gated && neurons.up.rows == 0) throw std::invalid_argument("these neurons have neither gate nor up rows");
            if (!gated && !has_zeros(kind)) throw std::invalid_argument(activation + " needs a gate");
            float* out;
            auto result = new_array<float>(x.shape(0), &out);
            std::fill_n(out, x.shape(0), 0.0f);
            nb::gil_scoped_release release;
            Query query(x.data(), neurons.down.cols);
            neurons.forward(query.batch(), kind, indices.data(), static_cast<int64_t>(indices.shape(0)), out);
            return result;
          },
          "x"_a, "indices"_a, "activation"_a,
          "What the chosen neurons add, float32 [width]: their activation(gate . x) (up . x) times their down rows, added in the order of indices.");
}

void bind_decoder(nb::module_& m) {
  nb::class_<Cache>(m, "Cache", "Keys and values of one sequence.")
      .def(
          "__init__",
          [](Cache* self, const Decoder& decoder, int64_t capacity, bool full_precision) {
            if (capacity < 1 || capacity > (int64_t{1} << 24)) throw std::invalid_argument("cache capacity is out of range");
            nb::gil_scoped_release release;
            new (self) Cache(decoder.cache_for(capacity, full_precision));
          },
          "decoder"_a, "capacity"_a, "full_precision"_a = false, "For this decoder only.")
      .def_ro("length", &Cache::length)
      .def_ro("capacity", &Cache::capacity)
      .def_prop_ro("token_bytes", &Cache::token_bytes, "Bytes that one position takes.")
      .def(
          "take_over",
          [](Cache& c, const Cache& from, int64_t length) {
            if (length < 0 || &c == &from) throw std::invalid_argument("a cache takes over positions of another one");
            nb::gil_scoped_release release;
            c.take_over(from, length);
          },
          "other"_a, "length"_a, "Copy the first positions of another cache over what this one holds.")
      .def(
          "truncate",
          [](Cache& c, int64_t length) {
            nb::gil_scoped_release release;
            c.truncate(length);
          },
          "length"_a, "Keep the first positions.")
      .def(
          "discard",
          [](Cache& c, int64_t length) {
            nb::gil_scoped_release release;
            c.discard(length);
          },
          "length"_a, "As truncate, and gives memory back.");

  nb::class_<Decoder>(m, "Decoder")
      .def(
          "__init__",
          [](Decoder* self, int width, int heads, int kv_heads, int head_dim, int ffn_width, float norm_eps, float embedding_scale, float attention_scale,
             const std::string& activation, const std::vector<Vector>& rope, const Vector& rope_scales, Matrix embedding, In1<float> final_norm, int laurel_rank) {
            if (!embedding || embedding->view.cols != width) throw std::invalid_argument("the embedding has the wrong width");
            check_size(final_norm.shape(0), width, "final_norm");
            for (const Vector& table : rope) check_size(table.size(), head_dim / 2, "a RoPE table");
            check_size(rope_scales.size(), static_cast<int64_t>(rope.size()), "rope_scales");
            if (laurel_rank < 0) throw std::invalid_argument("laurel_rank is negative");
            new (self) Decoder({width, heads, kv_heads, head_dim, ffn_width, laurel_rank, norm_eps, embedding_scale, attention_scale,
                                activation_named(activation), rope, rope_scales},
                               std::move(embedding), to_vector(final_norm));
          },
          nb::kw_only(), "width"_a, "heads"_a, "kv_heads"_a, "head_dim"_a, "ffn_width"_a, "norm_eps"_a, "embedding_scale"_a, "attention_scale"_a, "activation"_a,
          "rope"_a, "rope_scales"_a, "embedding"_a, "final_norm"_a, "laurel_rank"_a = 0)
      .def(
          "set_altup",
          [](Decoder& d, int active, std::vector<Matrix> expand, std::vector<Matrix> merge, Matrix table, Matrix projection, In1<float> norm) {
            if (d.layers()) throw std::invalid_argument("streams must be set before layers are added");
            const Config& c = d.config();
            LayerInputs inputs(std::move(table), std::move(projection), to_vector(norm), c.width, c.norm_eps);
            d.set_altup(AltUp(c.width, active, c.norm_eps, std::move(expand), std::move(merge), std::move(inputs)));
          },
          nb::kw_only(), "active"_a, "expand"_a, "merge"_a, "table"_a, "projection"_a, "norm"_a,
          "Several residual streams (AltUp), and an input of its own for every layer: `expand` and `merge` hold a matrix for each stream but the first, `table`, "
          "`projection` and `norm` make the inputs.")
      .def(
          "set_shared_router",
          [](Decoder& d, const Matrix& project, In1<float> decay, const Matrix& up, In1<float> up_bias, const Matrix& down, In1<float> down_bias) {
            if (d.layers()) throw std::invalid_argument("the router must be set before layers are added");
            d.set_shared_router(SharedRouter(project, to_vector(decay), up, to_vector(up_bias), down, to_vector(down_bias)));
          },
          nb::kw_only(), "project"_a, "decay"_a, "up"_a, "up_bias"_a, "down"_a, "down_bias"_a,
          "One router for the mixtures that have none.")
      .def(
          "add_layer",
          [](Decoder& d, const nb::dict& matrices, const nb::dict& vectors, int window, int rope_table, std::shared_ptr<Neurons> neurons,
             const nb::dict& inputs, std::shared_ptr<Mixture> mixture, int kv_layer, std::optional<float> cutoff) {
            auto matrix = [&](const std::string& name) { return matrices.contains(name.c_str()) ? nb::cast<Matrix>(matrices[name.c_str()]) : Matrix(); };
            auto linear = [&](const std::string& name) {
              if (matrices.contains(name.c_str()) && nb::isinstance<Channels>(matrices[name.c_str()]))
                return Linear{nullptr, nb::cast<std::shared_ptr<Channels>>(matrices[name.c_str()]), matrix(name + "_rest")};
              return Linear{matrix(name), nullptr, nullptr};
            };
            auto input = [&](const char* name) { return inputs.contains(name) ? nb::cast<std::shared_ptr<ChannelInput>>(inputs[name]) : nullptr; };
            auto vector = [&](const char* name) { return vectors.contains(name) ? to_vector(nb::cast<In1<float>>(vectors[name])) : Vector(); };
            Layer l;
            l.q = linear("q"), l.k = linear("k"), l.v = linear("v"), l.o = linear("o");
            l.gate = linear("gate"), l.up = linear("up"), l.down = linear("down");
            l.qkv_input = input("qkv"), l.o_input = input("o"), l.gate_up_input = input("gate_up"), l.down_input = input("down");
            if (neurons) l.ffn = ShortlistedFfn{matrix("scores"), vector("margin"), std::move(neurons)};
            l.mixture = std::move(mixture);
            l.attention_norm = vector("attention_norm"), l.post_attention_norm = vector("post_attention_norm");
            l.ffn_norm = vector("ffn_norm"), l.post_ffn_norm = vector("post_ffn_norm");
            l.q_norm = vector("q_norm"), l.k_norm = vector("k_norm"), l.v_norm = vector("v_norm");
            l.q_bias = vector("q_bias"), l.k_bias = vector("k_bias"), l.v_bias = vector("v_bias"), l.o_bias = vector("o_bias");
            l.gate_bias = vector("gate_bias"), l.up_bias = vector("up_bias"), l.down_bias = vector("down_bias");
            l.laurel = {linear("laurel_left"), linear("laurel_right"), vector("laurel_norm")};
            l.altup = {vector("altup_router"), vector("altup_predict"), vector("altup_correct"), vector("altup_scale"),
                       {linear("input_gate"), linear("input_up"), vector("input_norm")}};
            l.window = window, l.rope_table = rope_table, l.kv_layer = kv_layer, l.cutoff = cutoff;
            d.add_layer(std::move(l));
          },
          "matrices"_a, "vectors"_a, "window"_a, "rope_table"_a, "neurons"_a = nb::none(), "inputs"_a = nb::dict(), "mixture"_a = nb::none(),
          "kv_layer"_a = 0, "cutoff"_a = nb::none(),
          "With `neurons`, the matrix `scores` (and the vector `margin`, where scores are estimates) take the place of gate, up and down; so does `mixture`. "
          "`inputs` (qkv, o, gate_up, down) are the shortlists of matrices by channel. `kv_layer` says, for a layer without k and v, whose keys and values it "
          "attends to, counting the layers that have some. `cutoff` sets gates to zero that lie below their mean plus so many of their deviations.")
      .def_prop_ro("neurons_read", &Decoder::neurons_read, "Neurons whose rows were read in shortlisted layers, over all tokens so far.")
      .def(
          "forward",
          [](Decoder& d, In1<int32_t> tokens, const std::vector<Cache*>& caches, const std::vector<int>& counts, int64_t vocabulary) {
            if (!d.layers()) throw std::invalid_argument("the decoder has no layers");
            check_indices(tokens, std::min(vocabulary, d.vocabulary()));
            check_size(counts.size(), static_cast<int64_t>(caches.size()), "counts");
            check_size(tokens.shape(0), std::accumulate(counts.begin(), counts.end(), int64_t{0}), "tokens");
            if (std::set<Cache*>(caches.begin(), caches.end()).size() != caches.size()) throw std::invalid_argument("a cache comes twice");
            std::vector<Segment> segments;
            for (size_t i = 0; i < caches.size(); i++) {
              if (!caches[i]) throw std::invalid_argument("a segment needs a cache");
              if (counts[i] < 0) throw std::invalid_argument("a segment cannot have fewer than no tokens");
              segments.push_back({caches[i], counts[i]});
            }
            float* out;
            auto result = new_array<float>(tokens.shape(0), static_cast<size_t>(d.config().width), &out);
            if (!tokens.shape(0)) return result;
            nb::gil_scoped_release release;
            d.forward(tokens.data(), segments, out);
            return result;
          },
          "tokens"_a, "caches"_a, "counts"_a, "vocabulary"_a,
          "Append tokens [n] to caches, to each as many as counts say; their final-normed hidden states: float32 [n, width].");
}

}  // namespace shortlist
