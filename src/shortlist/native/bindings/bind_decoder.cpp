// The decoder and its parts in the Python module.
#include <algorithm>
#include <numeric>
#include <set>

#include "bindings/bind_arrays.hpp"
#include "blocks/decoder.hpp"
#include "sites/heads.hpp"
#include "sites/neurons.hpp"

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
          "gate"_a.none(), "up"_a.none(), "down"_a, "arena"_a = nb::none(),
          "Copies matrices [neurons, width]; `down` is transposed, a row per neuron.")
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
          "What the chosen neurons add, float32 [width]: their activation(gate . x) (up . x) times their down rows, added in the order of "
          "indices.");
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
          [](Decoder* self, Matrix embedding, In1<float> final_norm, float norm_eps, float embedding_scale,
              std::shared_ptr<Streams> streams) {
            new (self) Decoder(std::move(embedding), to_vector(final_norm), norm_eps, embedding_scale, std::move(streams));
          },
          nb::kw_only(), "embedding"_a, "final_norm"_a, "norm_eps"_a, "embedding_scale"_a = 1.0f, "streams"_a = nb::none())
      .def(
          "add_layer",
          [](Decoder& d, const std::vector<const Branch*>& branches) {
            Layer layer;
            for (const Branch* branch : branches) {
              if (!branch) throw std::invalid_argument("a layer needs a branch");
              layer.push_back(*branch);
            }
            d.add_layer(std::move(layer));
          },
          "branches"_a, "Append a layer, whose blocks belong to this decoder from here on.")
      .def_prop_ro("nbytes", [](const Decoder& d) { return d.bytes().packed; },
          "Packed bytes of the layers and what is around them, without the embedding.")
      .def(
          "token_bytes",
          [](const Decoder& d, int64_t tokens) {
            if (tokens < 0) throw std::invalid_argument("a number of tokens is negative");
            const Bytes bytes = d.bytes();
            return static_cast<int64_t>(bytes.always) + (tokens ? bytes.chosen / tokens : static_cast<int64_t>(bytes.most));
          },
          "tokens"_a, "Bytes of the layers that a token reads: the mean of so many tokens so far, or with 0 what it reads at most.")
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
            auto result = new_array<float>(tokens.shape(0), static_cast<size_t>(d.width()), &out);
            if (!tokens.shape(0)) return result;
            nb::gil_scoped_release release;
            d.forward(tokens.data(), segments, out);
            return result;
          },
          "tokens"_a, "caches"_a, "counts"_a, "vocabulary"_a,
          "Append tokens [n] to caches, to each as many as counts say; their final-normed hidden states: float32 [n, width].");
}

}  // namespace shortlist
