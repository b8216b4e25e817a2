// The vector index's part of the Python module.
#include "bindings/bind_arrays.hpp"
#include "sites/index.hpp"

namespace shortlist {

namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace

void bind_index(nb::module_& m) {
  m.def(
      "estimate_each",
      [](const Rows& rows, In2<float> queries) {
        require(static_cast<int>(queries.shape(1)) == rows.view.cols, "the queries have another width than the rows");
        const int count = static_cast<int>(queries.shape(0));
        float* out;
        auto result = new_array<float>(queries.shape(0), static_cast<size_t>(rows.view.rows), &out);
        nb::gil_scoped_release release;
        const Activations prepared(queries.data(), count, rows.view.cols);
        estimate_each(rows, prepared.batch(count), out);
        return result;
      },
      "rows"_a, "queries"_a,
      "All rows times each query [n, cols]: float32 [n, rows]. For narrow rows that stay in the cache; see Rows.matmul.");
  m.def(
      "shortlist_each",
      [](In2<float> values, int64_t count) {
        const int64_t queries = static_cast<int64_t>(values.shape(0)), rows = static_cast<int64_t>(values.shape(1));
        require(count >= 1 && count <= rows && rows <= INT32_MAX,
            "a shortlist holds 1 to all of the rows, of which there are fewer than 2^31");
        int32_t* out;
        auto result = new_array<int32_t>(values.shape(0), static_cast<size_t>(count), &out);
        nb::gil_scoped_release release;
        shortlist_each(values.data(), queries, rows, count, out);
        return result;
      },
      "values"_a, "count"_a, "The rows of the largest `count` values of each query, ascending: int32 [n, count].");
  m.def(
      "compute_each",
      [](const std::vector<Matrix>& parts, In2<float> queries, In2<int32_t> shortlists, int64_t best) {
        const int64_t count = static_cast<int64_t>(shortlists.shape(1));
        const int width = static_cast<int>(queries.shape(1)), n = static_cast<int>(queries.shape(0));
        int64_t rows = 0;
        for (const Matrix& part : parts) {
          require(part && part->view.cols == width && !part->view.tiled, "every part has the width of the queries and is stored by row");
          rows += part->view.rows;
        }
        require(shortlists.shape(0) == queries.shape(0) && best >= 1 && best <= count,
            "each query has a shortlist, and the best are some of it");
        for (int64_t i = 0; i < n * count; i++) {
          const int32_t row = shortlists.data()[i];
          require(row >= 0 && row < rows && (i % count == 0 || shortlists.data()[i - 1] < row),
              "a shortlist holds rows of the table, ascending");
        }
        int64_t* ids;
        float* scores;
        auto all_ids = new_array<int64_t>(queries.shape(0), static_cast<size_t>(best), &ids);
        auto all_scores = new_array<float>(queries.shape(0), static_cast<size_t>(best), &scores);
        {
          nb::gil_scoped_release release;
          const Activations prepared(queries.data(), n, width);
          compute_each(parts, prepared.batch(n), shortlists.data(), count, best, ids, scores);
        }
        return nb::make_tuple(all_ids, all_scores);
      },
      "parts"_a, "queries"_a, "shortlists"_a, "best"_a,
      "(rows int64, exact values float32), [n, best] each, largest first: the best of each query's shortlist [n, count] in the table made "
      "of the parts.");
  m.def(
      "unpack_int8",
      [](const Rows& rows) {
        const RowsView& v = rows.view;
        require(v.format.kind == Kind::Quantized && v.format.bits == 8 && v.format.group == 32 && !v.tiled,
            "8-bit rows, stored by row, are needed");
        const size_t n = static_cast<size_t>(v.rows), cols = static_cast<size_t>(v.cols), groups = (cols + 31) / 32;
        int8_t* codes;
        uint16_t* scales;
        auto all_codes = new_array<int8_t>(n, cols, &codes);
        auto all_scales = new_array<uint16_t>(n, groups, &scales);
        {
          nb::gil_scoped_release release;
          for (int64_t r = 0; r < v.rows; r++, codes += cols, scales += groups) {
            for (size_t i = 0; i < cols; i++) {
              const size_t byte = i / 64 * 32 + i % 32;
              const int shift = i % 64 < 32 ? 0 : 4, code = (v.row(r)[byte] >> shift & 15) << 4 | (v.lower(r)[byte] >> shift & 15);
              codes[i] = static_cast<int8_t>(code - 128);
            }
            std::copy_n(v.scales(r), groups, scales);
          }
        }
        return nb::make_tuple(all_codes, all_scales);
      },
      "rows"_a, "(codes int8 [rows, cols], scales as uint16 [rows, groups]): what Rows.pack_int8 makes the same rows of.");
}

}  // namespace shortlist
