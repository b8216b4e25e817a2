// Packed matrices in the Python module.
#include <algorithm>

#include "bindings/bind_arrays.hpp"
#include "kernels/kernels.hpp"
#include "sites/heads.hpp"

namespace shortlist {

namespace {

void check_by_row(const Rows& rows) {
  if (rows.view.tiled) throw std::invalid_argument("a tiled matrix is read whole: pack it without tiles to read single rows");
}

Activations activations_of(const In2<float>& x, const Rows& rows) {
  check_size(x.shape(1), rows.view.cols, "x");
  return Activations(x.data(), static_cast<int>(x.shape(0)), rows.view.cols);
}

}  // namespace

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
          "Pack the bytes of a GGUF or safetensors tensor; `format` q8 or q4 quantizes float sources. A `tiled` matrix is read whole only, "
          "and faster.")
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
      .def_rw("threads", &Rows::threads, "Of products with these rows, and of heads that read them; 0: as elsewhere.")
      .def_rw("source", &Rows::source, "The file that they are from, which errors name.")
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
            Workers::Scope scope(r.threads);
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
            Workers::Scope scope(r.threads);
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
            Workers::Scope scope(r.threads);
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
            Workers::Scope scope(r.threads);
            Activations a = activations_of(x, r);
            const Batch batch = a.batch(static_cast<int>(x.shape(0)));
            Pool::instance().run([&](Team& team) {
              const auto share = team.share(r.view.rows, 16);
              if (share.end > share.begin)
                kernels().gemm(r.view, batch, share.begin, share.end, out + share.begin, static_cast<size_t>(r.view.rows));
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
            std::fill_n(out, r.view.cols, 0.0f);
            nb::gil_scoped_release release;
            Workers::Scope scope(r.threads);
            Pool::instance().run([&](Team& team) {
              const auto columns = team.share(r.view.cols, kBlock);
              if (columns.begin < columns.end)
                kernels().axpy_list(r.view, indices.data(), coefficients.data(), static_cast<int64_t>(indices.shape(0)),
                    static_cast<int>(columns.begin),
                                    static_cast<int>(columns.end), out);
            });
            return result;
          },
          "indices"_a, "coefficients"_a, "sum_i coefficients[i] * row indices[i], added in this order: float32 [cols].");
}

void bind_types(nb::module_& m) {
  nb::class_<TensorType>(m, "TensorType", "A tensor type of files: one record of the table that packing and kernels read.")
      .def_prop_ro("name", [](const TensorType& t) { return t.name; })
      .def_prop_ro("number", [](const TensorType& t) { return t.number < 0 ? std::nullopt : std::optional<int>(t.number); },
          "In GGUF files; None: of no GGUF file.")
      .def_prop_ro("weights", [](const TensorType& t) { return t.weights; }, "Weights of a block.")
      .def_prop_ro("bytes", [](const TensorType& t) { return t.bytes; }, "Bytes of a block.")
      .def_prop_ro("quantized", [](const TensorType& t) { return t.format().quantized(); })
      .def_prop_ro("packed", [](const TensorType& t) { return t.format().name(); }, "The format that it is kept in: Rows.format.")
      .def_prop_ro("bits", [](const TensorType& t) { return static_cast<int>(t.format().bits); }, "Of a code.")
      .def_prop_ro("group", [](const TensorType& t) { return static_cast<int>(t.format().group); },
          "Columns that share a scale; 0: floats.")
      .def_prop_ro("minimum", [](const TensorType& t) { return t.format().minimum; }, "Whether a value is scale * code + minimum.")
      .def_prop_ro("looked_up", [](const TensorType& t) { return t.format().looked_up(); }, "Whether a value is scale * table[code].")
      .def_prop_ro(
          "scale",
          [](const TensorType& t) {
            constexpr const char* names[] = {"f16", "e8m0", "int8 x f16", "4 bits x f16"};
            return names[static_cast<int>(t.format().scale)];
          },
          "What a group's scale is stored as.");
  m.def(
      "tensor_types",
      [] {
        const TensorTypes types = tensor_types();
        return std::vector<TensorType>(types.begin(), types.end());
      },
      "Every tensor type that can be packed.");
  m.attr("GROUP") = kFormats[kQ8].group;
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
      .def("finish", [](Packer& packer) { return std::make_shared<Rows>(packer.finish()); },
          "The packed matrix, once all rows were added.");
}

}  // namespace shortlist
