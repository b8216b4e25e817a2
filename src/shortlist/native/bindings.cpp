// The Python module shortlist._native. Arrays are checked here; below this file sizes are trusted. The GIL is released
// around all work, so that other Python threads run and a signal waits for one call at most.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "bandwidth.hpp"
#include "decoder.hpp"
#include "heads.hpp"
#include "neurons.hpp"
#include "noise.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace shortlist {

void bind_bpe(nb::module_& m);    // bind_bpe.cpp
void bind_index(nb::module_& m);  // bind_index.cpp

namespace {

template <class T>
using In1 = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using In2 = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T, int dims>
using Out = nb::ndarray<nb::numpy, T, nb::ndim<dims>>;

template <class T>
Out<T, 1> new_array(size_t n, T** data) {
  *data = new T[n]();
  nb::capsule owner(*data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return Out<T, 1>(*data, {n}, owner);
}
template <class T>
Out<T, 2> new_array(size_t n, size_t m, T** data) {
  *data = new T[n * m]();
  nb::capsule owner(*data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return Out<T, 2>(*data, {n, m}, owner);
}

void check_indices(const In1<int32_t>& indices, int64_t rows) {
  for (size_t i = 0; i < indices.shape(0); i++)
    if (indices.data()[i] < 0 || indices.data()[i] >= rows)
      throw nb::index_error(("row " + std::to_string(indices.data()[i]) + " of " + std::to_string(rows)).c_str());
}
void check_size(size_t got, int64_t expected, const char* what) {
  if (static_cast<int64_t>(got) != expected)
    throw std::invalid_argument(std::string(what) + " has " + std::to_string(got) + " values where " + std::to_string(expected) + " are needed");
}

void check_by_row(const Rows& rows) {
  if (rows.view.tiled) throw std::invalid_argument("a tiled matrix is read whole: pack it without tiles to read single rows");
}

void check_limits(int64_t most, int probes) {
  if (probes < 1 || most < 1) throw std::invalid_argument("at least one probe and one row are needed");
}

Vector to_vector(const In1<float>& array) { return Vector(array.data(), array.data() + array.shape(0)); }

Activations activations_of(const In2<float>& x, const Rows& rows) {
  check_size(x.shape(1), rows.view.cols, "x");
  const int tokens = static_cast<int>(x.shape(0));
  Activations a(rows.view.cols);
  a.reserve(std::max(tokens, 1));
  for (int t = 0; t < tokens; t++) std::copy_n(x.data() + static_cast<size_t>(t) * x.shape(1), x.shape(1), a.x(t));
  for (int t = 0; t < tokens; t++) a.quantize(t);
  return a;
}

void bind_rows(nb::module_& m) {
  nb::class_<Arena>(m, "Arena", "Packs many small matrices into few mappings on huge pages.").def(nb::init<>());

  nb::class_<Rows>(m, "Rows", "A packed matrix [rows, cols].")
      .def_static(
          "pack",
          [](In1<uint8_t> data, const std::string& type, int64_t rows, int64_t cols, const std::string& format, Arena* arena, bool tiled) {
            nb::gil_scoped_release release;
            Arena own(0);
            Packer packer(type, rows, cols, format, tiled, arena ? *arena : own);
            packer.add(data.data(), data.shape(0));
            return std::make_shared<Rows>(packer.finish());
          },
          "data"_a, "type"_a, "rows"_a, "cols"_a, "format"_a = "", "arena"_a = nb::none(), "tiled"_a = false,
          "Pack the bytes of a GGUF or safetensors tensor; `format` q8 or q4 quantizes float sources. A `tiled` matrix is read whole only, and faster.")
      .def_static(
          "pack_int8",
          [](In2<int8_t> codes, In2<uint16_t> scales, bool tiled) {
            const int64_t rows = static_cast<int64_t>(codes.shape(0)), cols = static_cast<int64_t>(codes.shape(1));
            check_size(scales.shape(0), rows, "scales");
            check_size(scales.shape(1), (cols + 31) / 32, "a row of scales");
            nb::gil_scoped_release release;
            Arena own(0);
            return std::make_shared<Rows>(pack_int8(codes.data(), scales.data(), rows, cols, tiled, own));
          },
          "codes"_a, "scales"_a, "tiled"_a = false, "Pack int8 codes [rows, cols] with float16 scales (as uint16) per 32 columns.")
      .def_prop_ro("rows", [](const Rows& r) { return r.view.rows; })
      .def_prop_ro("cols", [](const Rows& r) { return r.view.cols; })
      .def_prop_ro("format", [](const Rows& r) { return r.view.format.name(); })
      .def_prop_ro("nbytes", &Rows::bytes)
      .def_prop_ro("row_bytes", [](const Rows& r) { return r.view.row_bytes(); })
      .def_prop_ro("upper_row_bytes", [](const Rows& r) { return r.view.primary_stride; },
                   "Bytes of one row in the primary plane: the upper half and the scales of 8-bit rows.")
      .def(
          "unpack",
          [](const Rows& r, In1<int32_t> indices) {
            check_indices(indices, r.view.rows);
            float* out;
            const size_t n = indices.shape(0), cols = static_cast<size_t>(r.view.cols);
            auto result = new_array<float>(n, cols, &out);
            nb::gil_scoped_release release;
            Pool::instance().run([&](Team& team) {
              const auto share = team.share(static_cast<int64_t>(n));
              for (int64_t i = share.begin; i < share.end; i++) unpack_row(r.view, indices.data()[i], out + static_cast<size_t>(i) * cols);
            });
            return result;
          },
          "indices"_a, "Float values of the chosen rows [n, cols].")
      .def(
          "matvec",
          [](const Rows& r, In1<float> x) {
            check_size(x.shape(0), r.view.cols, "x");
            float* out;
            auto result = new_array<float>(static_cast<size_t>(r.view.rows), &out);
            nb::gil_scoped_release release;
            Query query(x.data(), r.view.cols);
            Pool::instance().run([&](Team& team) {
              const auto share = team.share(r.view.rows, 16);
              kernels().dot_range(r.view, query.batch(), share.begin, share.end, out + share.begin);
            });
            return result;
          },
          "x"_a, "All rows times x: float32 [rows].")
      .def(
          "matvec_rows",
          [](const Rows& r, In1<float> x, In1<int32_t> indices) {
            check_size(x.shape(0), r.view.cols, "x");
            check_indices(indices, r.view.rows);
            check_by_row(r);
            float* out;
            const int64_t n = static_cast<int64_t>(indices.shape(0));
            auto result = new_array<float>(indices.shape(0), &out);
            nb::gil_scoped_release release;
            Query query(x.data(), r.view.cols);
            Pool::instance().run([&](Team& team) {
              const auto share = team.share(n, 16);
              kernels().dot_list(r.view, query.batch(), indices.data() + share.begin, share.end - share.begin, out + share.begin);
            });
            return result;
          },
          "x"_a, "indices"_a, "The chosen rows times x, bit-identical to the same rows of matvec: float32 [n].")
      .def(
          "matmul",
          [](const Rows& r, In2<float> x) {
            float* out;
            auto result = new_array<float>(x.shape(0), static_cast<size_t>(r.view.rows), &out);
            if (x.shape(0) == 0) return result;
            nb::gil_scoped_release release;
            Activations a = activations_of(x, r);
            const Batch batch = a.batch(static_cast<int>(x.shape(0)));
            Pool::instance().run([&](Team& team) {
              const auto share = team.share(r.view.rows, 16);
              std::vector<uint8_t> scratch(gemm_scratch(r.view.padded));
              if (share.end > share.begin) kernels().gemm(r.view, batch, share.begin, share.end, out, static_cast<size_t>(r.view.rows), scratch.data());
            });
            return result;
          },
          "x"_a, "x [tokens, cols] times all rows: float32 [tokens, rows].")
      .def(
          "axpy_rows",
          [](const Rows& r, In1<int32_t> indices, In1<float> coefficients) {
            check_indices(indices, r.view.rows);
            check_size(coefficients.shape(0), static_cast<int64_t>(indices.shape(0)), "coefficients");
            check_by_row(r);
            float* out;
            auto result = new_array<float>(static_cast<size_t>(r.view.cols), &out);
            nb::gil_scoped_release release;
            Pool::instance().run([&](Team& team) {
              const auto columns = team.share(r.view.cols, kBlock);
              if (columns.begin < columns.end)
                kernels().axpy_list(r.view, indices.data(), coefficients.data(), static_cast<int64_t>(indices.shape(0)), static_cast<int>(columns.begin),
                                    static_cast<int>(columns.end), out);
            });
            return result;
          },
          "indices"_a, "coefficients"_a, "sum_i coefficients[i] * row indices[i], added in this order: float32 [cols].");
}

void bind_packer(nb::module_& m) {
  nb::class_<Packer>(m, "Packer", "Packs a tensor piece by piece, as Rows.pack does at once.")
      .def(
          "__init__",
          [](Packer* self, const std::string& type, int64_t rows, int64_t cols, const std::string& format, Arena* arena, bool tiled) {
            Arena own(0);
            new (self) Packer(type, rows, cols, format, tiled, arena ? *arena : own);
          },
          "type"_a, "rows"_a, "cols"_a, "format"_a = "", "arena"_a = nb::none(), "tiled"_a = false)
      .def(
          "add",
          [](Packer& packer, In1<uint8_t> data) {
            nb::gil_scoped_release release;
            packer.add(data.data(), data.shape(0));
          },
          "data"_a, "The bytes of the next rows.")
      .def("finish", [](Packer& packer) { return std::make_shared<Rows>(packer.finish()); }, "The packed matrix, once all rows were added.");
}

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
            new (self) Cache(decoder.layers(), decoder.config(), capacity, full_precision);
          },
          "decoder"_a, "capacity"_a, "full_precision"_a = false)
      .def_ro("length", &Cache::length)
      .def_ro("capacity", &Cache::capacity)
      .def_prop_ro("token_bytes", &Cache::token_bytes, "Bytes that one position takes.")
      .def(
          "truncate",
          [](Cache& c, int64_t length) {
            if (length < 0 || length > c.length) throw std::invalid_argument("a cache can only be truncated to fewer positions");
            c.length = length;
          },
          "length"_a);

  nb::class_<Decoder>(m, "Decoder")
      .def(
          "__init__",
          [](Decoder* self, int width, int heads, int kv_heads, int head_dim, int ffn_width, float norm_eps, float embedding_scale, float attention_scale,
             const std::string& activation, const std::vector<Vector>& rope, Matrix embedding, In1<float> final_norm) {
            if (!embedding || embedding->view.cols != width) throw std::invalid_argument("the embedding has the wrong width");
            check_size(final_norm.shape(0), width, "final_norm");
            for (const Vector& table : rope) check_size(table.size(), head_dim / 2, "a RoPE table");
            new (self) Decoder({width, heads, kv_heads, head_dim, ffn_width, norm_eps, embedding_scale, attention_scale, activation_named(activation), rope}, std::move(embedding),
                               to_vector(final_norm));
          },
          nb::kw_only(), "width"_a, "heads"_a, "kv_heads"_a, "head_dim"_a, "ffn_width"_a, "norm_eps"_a, "embedding_scale"_a, "attention_scale"_a, "activation"_a,
          "rope"_a, "embedding"_a, "final_norm"_a)
      .def(
          "add_layer",
          [](Decoder& d, const nb::dict& matrices, const nb::dict& vectors, int window, int rope_table, std::shared_ptr<Neurons> neurons) {
            auto matrix = [&](const char* name) { return matrices.contains(name) ? nb::cast<Matrix>(matrices[name]) : Matrix(); };
            auto vector = [&](const char* name) { return vectors.contains(name) ? to_vector(nb::cast<In1<float>>(vectors[name])) : Vector(); };
            Layer l;
            l.q = matrix("q"), l.k = matrix("k"), l.v = matrix("v"), l.o = matrix("o");
            l.gate = matrix("gate"), l.up = matrix("up"), l.down = matrix("down");
            if (neurons) l.ffn = ShortlistedFfn{matrix("scores"), vector("margin"), std::move(neurons)};
            l.attention_norm = vector("attention_norm"), l.post_attention_norm = vector("post_attention_norm");
            l.ffn_norm = vector("ffn_norm"), l.post_ffn_norm = vector("post_ffn_norm");
            l.q_norm = vector("q_norm"), l.k_norm = vector("k_norm");
            l.q_bias = vector("q_bias"), l.k_bias = vector("k_bias"), l.v_bias = vector("v_bias");
            l.window = window, l.rope_table = rope_table;
            d.add_layer(std::move(l));
          },
          "matrices"_a, "vectors"_a, "window"_a, "rope_table"_a, "neurons"_a = nb::none(),
          "With `neurons`, the matrix `scores` (and the vector `margin`, where scores are estimates) take the place of gate, up and down.")
      .def_prop_ro("neurons_read", &Decoder::neurons_read, "Neurons whose rows were read in shortlisted layers, over all tokens so far.")
      .def(
          "forward",
          [](Decoder& d, In1<int32_t> tokens, Cache& cache, int64_t vocabulary) {
            const int count = static_cast<int>(tokens.shape(0));
            if (!d.layers()) throw std::invalid_argument("the decoder has no layers");
            check_indices(tokens, vocabulary);
            if (cache.length + count > cache.capacity) throw std::length_error("the cache is full");
            float* out;
            auto result = new_array<float>(tokens.shape(0), static_cast<size_t>(d.config().width), &out);
            if (!count) return result;
            nb::gil_scoped_release release;
            d.forward(tokens.data(), count, cache, out);
            return result;
          },
          "tokens"_a, "cache"_a, "vocabulary"_a, "Append tokens [n] to the cache; their final-normed hidden states: float32 [n, width].");
}

void bind_heads(nb::module_& m) {
  auto query = [](const Head& head, const In1<float>& h) {
    check_size(h.shape(0), head.rows().view.cols, "the hidden state");
    return Query(h.data(), head.rows().view.cols);
  };
  nb::class_<Head>(m, "Head", "The language-model head: all rows, or those that a bound leaves.")
      .def(nb::init<Matrix>(), "rows"_a)
      .def(
          "dense",
          [query](const Head& head, In1<float> h) {
            float* out;
            auto result = new_array<float>(static_cast<size_t>(head.rows().view.rows), &out);
            nb::gil_scoped_release release;
            head.dense(query(head, h), out);
            return result;
          },
          "hidden"_a, "Exact values of all rows: float32 [rows].")
      .def(
          "dense_argmax",
          [query](Head& head, In1<float> h) {
            nb::gil_scoped_release release;
            Winner w = head.dense_argmax(query(head, h));
            return std::make_tuple(w.token, w.value, w.rows);
          },
          "hidden"_a, "(row, value, rows read) of the largest value.")
      .def(
          "exact_rows",
          [query](const Head& head, In1<float> h, In1<int32_t> indices) {
            check_indices(indices, head.rows().view.rows);
            float* out;
            auto result = new_array<float>(indices.shape(0), &out);
            nb::gil_scoped_release release;
            head.exact_rows(query(head, h), indices.data(), static_cast<int64_t>(indices.shape(0)), out);
            return result;
          },
          "hidden"_a, "indices"_a)
      .def(
          "bounds",
          [query](const Head& head, In1<float> h) {
            float *middle, *radius;
            const size_t n = static_cast<size_t>(head.rows().view.rows);
            auto middles = new_array<float>(n, &middle), radii = new_array<float>(n, &radius);
            {
              nb::gil_scoped_release release;
              head.bounds(query(head, h), middle, radius);
            }
            return nb::make_tuple(middles, radii);
          },
          "hidden"_a, "(middle, radius), float32 [rows] each, from the upper plane: |exact - middle| <= radius always.")
      .def(
          "certified_argmax",
          [query](Head& head, In1<float> h) {
            nb::gil_scoped_release release;
            Winner w = head.certified_argmax(query(head, h));
            return std::make_tuple(w.token, w.value, w.rows);
          },
          "hidden"_a, "As dense_argmax, provably, reading the lower plane of few rows.");

  nb::class_<LowRank>(m, "LowRank", "Low-rank estimate of all rows, with its spread.")
      .def(
          "__init__",
          [](LowRank* self, Matrix projection, Matrix codes, In1<float> residual) { new (self) LowRank(projection, codes, to_vector(residual)); },
          "projection"_a, "codes"_a, "residual"_a)
      .def_prop_ro("nbytes", &LowRank::bytes)
      .def(
          "estimate",
          [query](const LowRank& low, const Head& head, In1<float> h) {
            float *values, *spread;
            const size_t n = static_cast<size_t>(head.rows().view.rows);
            auto all_values = new_array<float>(n, &values), all_spread = new_array<float>(n, &spread);
            {
              nb::gil_scoped_release release;
              low.estimate(query(head, h), values, spread);
            }
            return nb::make_tuple(all_values, all_spread);
          },
          "head"_a, "hidden"_a, "(values, spread), float32 [rows] each.")
      .def(
          "shortlist",
          [query](const LowRank& low, const Head& head, In1<float> h, float sigma, int64_t most, int probes) {
            check_limits(most, probes);
            std::vector<int32_t> indices;
            std::vector<float> values, estimates;
            float unit = 0.0f;
            Winner w;
            {
              nb::gil_scoped_release release;
              w = low.shortlist(query(head, h), head, sigma, most, probes, indices, values, estimates, unit);
            }
            int32_t* rows;
            float *exact, *all;
            auto row_array = new_array<int32_t>(indices.size(), &rows);
            auto exact_array = new_array<float>(values.size(), &exact), all_array = new_array<float>(estimates.size(), &all);
            std::copy(indices.begin(), indices.end(), rows);
            std::copy(values.begin(), values.end(), exact);
            std::copy(estimates.begin(), estimates.end(), all);
            return nb::make_tuple(row_array, exact_array, all_array, unit);
          },
          "head"_a, "hidden"_a, "sigma"_a, "most"_a, "probes"_a = kProbes, "The confidence shortlist: (rows, their exact values, estimates of all rows, what times a residual is a spread).")
      .def(
          "distribution",
          [query](const LowRank& low, const Head& head, In1<float> h, float sigma, int64_t most, int probes, double share) {
            check_limits(most, probes);
            float* logits;
            auto result = new_array<float>(static_cast<size_t>(head.rows().view.rows), &logits);
            int64_t rows;
            {
              nb::gil_scoped_release release;
              rows = low.distribution(query(head, h), head, sigma, most, probes, share, logits);
            }
            return nb::make_tuple(result, rows);
          },
          "head"_a, "hidden"_a, "sigma"_a, "most"_a, "probes"_a, "share"_a, "(logits float32 [rows], rows read): at most `share` of the mass is left to estimates.")
      .def(
          "argmax",
          [query](const LowRank& low, const Head& head, In1<float> h, float sigma, int64_t most, int probes) {
            check_limits(most, probes);
            nb::gil_scoped_release release;
            static thread_local std::vector<int32_t> indices;
            static thread_local std::vector<float> values, estimates;
            float unit = 0.0f;
            Winner w = low.shortlist(query(head, h), head, sigma, most, probes, indices, values, estimates, unit);
            return std::make_tuple(w.token, w.value, w.rows);
          },
          "head"_a, "hidden"_a, "sigma"_a, "most"_a, "probes"_a = kProbes, "(row, value, rows read) of the largest exact value on the shortlist.");
}

}  // namespace

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false);  // an interrupted program would end with a page of them
  m.doc() = "Packed rows, the decoder and the head: the hot path of shortlist.";
  bind_rows(m);
  bind_packer(m);
  bind_neurons(m);
  bind_decoder(m);
  bind_heads(m);
  bind_bpe(m);
  bind_index(m);
  m.def("isa", [] { return std::string(kernels().name); }, "Name of the instruction set in use.");
  m.def("threads", [] { return Pool::instance().threads(); });
  m.def(
      "set_threads",
      [](int n) {
        if (n < 1 || n > 1024) throw std::invalid_argument("threads must be between 1 and 1024");
        nb::gil_scoped_release release;
        Pool::instance().resize(n);
      },
      "n"_a);
  m.def(
      "read_bandwidth_gb_s",
      [](int megabytes, int runs) {
        if (megabytes < 1 || megabytes > 16384 || runs < 1) throw std::invalid_argument("between 1 and 16384 megabytes");
        nb::gil_scoped_release release;
        return read_bandwidth(static_cast<size_t>(megabytes) << 20, runs);
      },
      "megabytes"_a = 512, "runs"_a = 5, "Gigabytes per second that the pool's threads read from memory.");
  m.def(
      "gumbel_noise",
      [](uint64_t seed, uint64_t position, In1<int32_t> rows) {
        float* out;
        auto result = new_array<float>(rows.shape(0), &out);
        GumbelNoise noise(seed, position);
        nb::gil_scoped_release release;
        Pool::instance().run([&](Team& team) {
          const auto share = team.share(static_cast<int64_t>(rows.shape(0)), 256);
          for (int64_t i = share.begin; i < share.end; i++) out[i] = noise(static_cast<uint64_t>(rows.data()[i]));
        });
        return result;
      },
      "seed"_a, "position"_a, "rows"_a, "Standard Gumbel noise of the rows: float32 [n].");
  m.def(
      "contenders",
      [](uint64_t seed, uint64_t position, In1<int64_t> rows, In1<double> upper, double floor, double lowest) {
        check_size(upper.shape(0), static_cast<int64_t>(rows.shape(0)), "upper");
        std::vector<std::vector<int64_t>> places(static_cast<size_t>(Pool::instance().threads()));
        std::vector<std::vector<double>> noises(places.size());
        {
          nb::gil_scoped_release release;
          const GumbelNoise noise(seed, position);
          static const NoiseFilter filter;
          Pool::instance().run([&](Team& team) {
            const size_t id = static_cast<size_t>(team.id);
            const auto share = team.share(static_cast<int64_t>(rows.shape(0)));
            for (int64_t i = share.begin; i < share.end; i++) {
              if (upper.data()[i] < lowest) continue;
              const uint32_t least = filter.least(floor - upper.data()[i]);
              if (least == NoiseFilter::kNever) continue;
              const uint32_t bits = noise.bits(static_cast<uint64_t>(rows.data()[i]));
              if (bits < least) continue;
              const double value = static_cast<double>(GumbelNoise::of(bits));
              if (upper.data()[i] + value < floor) continue;
              places[id].push_back(i);
              noises[id].push_back(value);
            }
          });
        }
        size_t count = 0;
        for (const auto& part : places) count += part.size();
        int64_t* place;
        double* noise;
        auto all_places = new_array<int64_t>(count, &place);
        auto all_noise = new_array<double>(count, &noise);
        for (size_t id = 0; id < places.size(); id++) {
          place = std::copy(places[id].begin(), places[id].end(), place);
          noise = std::copy(noises[id].begin(), noises[id].end(), noise);
        }
        return nb::make_tuple(all_places, all_noise);
      },
      "seed"_a, "position"_a, "rows"_a, "upper"_a, "floor"_a, "lowest"_a,
      "(places int64 [m], noise float64 [m]): where upper [n] reaches `lowest`, and plus the noise of rows [n] the floor, ascending.");
  m.def("fail_in_thread", [](int member) {
    nb::gil_scoped_release release;
    Pool::instance().run([&](Team& team) {
      if (team.id == member) throw std::runtime_error("a member of the team failed");
      team.barrier();
    });
  }, "member"_a, "Raise in one thread of the pool (for the test that errors reach Python and nothing hangs).");
}

}  // namespace shortlist
