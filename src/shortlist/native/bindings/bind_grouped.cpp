// Grouped products in the Python module.
#include "bindings/bind_arrays.hpp"
#include "torch/grouped.hpp"

namespace shortlist {

namespace {

using Loads = In1<int64_t>;
using Index = std::optional<In1<int64_t>>;
using Floats3 = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
template <int dims>
using Results = nb::ndarray<float, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

// Loads whose sum is the number of rows that there are.
std::vector<int64_t> checked_load(const Loads& load, size_t groups, int64_t rows) {
  check_size(load.shape(0), static_cast<int64_t>(groups), "load");
  int64_t left = rows;
  for (size_t g = 0; g < load.shape(0); g++) {
    if (load.data()[g] < 0 || load.data()[g] > left) throw std::invalid_argument("load does not add up to the rows");
    left -= load.data()[g];
  }
  if (left) throw std::invalid_argument("load does not add up to the rows");
  return {load.data(), load.data() + load.shape(0)};
}

const int64_t* checked_index(const Index& index, int64_t count, size_t rows, const char* what) {
  if (!index) return nullptr;
  check_size(index->shape(0), count, what);
  for (size_t i = 0; i < index->shape(0); i++)
    if (index->data()[i] < 0 || index->data()[i] >= static_cast<int64_t>(rows))
      throw nb::index_error((std::string(what) + " names row " + std::to_string(index->data()[i]) + " of " + std::to_string(rows)).c_str());
  return index->data();
}

int64_t size_of(const Index& index, size_t rows) { return static_cast<int64_t>(index ? index->shape(0) : rows); }

}  // namespace

void bind_grouped(nb::module_& m) {
  m.def(
      "grouped_product",
      [](Floats3 weights, In2<float> x, Loads load, Results<2> out, const Index& rows, const Index& out_rows,
         const std::optional<In1<float>>& scale, bool transposed) {
        const auto matrix_rows = static_cast<int64_t>(weights.shape(1)), columns = static_cast<int64_t>(weights.shape(2));
        check_size(x.shape(1), transposed ? matrix_rows : columns, "x");
        check_size(out.shape(1), transposed ? columns : matrix_rows, "out");
        const int64_t count = size_of(rows, x.shape(0));
        const std::vector<int64_t> loads = checked_load(load, weights.shape(0), count);
        const GatheredRows from{x.data(), static_cast<int64_t>(x.shape(1)), checked_index(rows, count, x.shape(0), "rows")};
        const ScatteredRows to{out.data(), static_cast<int64_t>(out.shape(1)), checked_index(out_rows, count, out.shape(0), "out_rows"),
                               scale ? scale->data() : nullptr};
        if (!out_rows) check_size(out.shape(0), count, "out");
        if (scale) check_size(scale->shape(0), count, "scale");
        if (scale && !out_rows) throw std::invalid_argument("scale is for what is added to out_rows");
        nb::gil_scoped_release release;
        grouped_product(weights.data(), matrix_rows, columns, transposed, loads, from, to);
      },
      "weights"_a, "x"_a, "load"_a, "out"_a, nb::kw_only(), "rows"_a = nb::none(), "out_rows"_a = nb::none(), "scale"_a = nb::none(),
      "transposed"_a = false,
      "Products of matrices weights [groups, m, n] with rows of x [*, n], load [groups] of them for each in turn; with the transposed "
      "matrices, "
      "of x [*, m]. `rows` says which rows of x (all in their order without it). Results are written to `out`, or with `out_rows` added to "
      "those "
      "rows of it, times `scale` [rows].");
  m.def(
      "grouped_outer",
      [](In2<float> left, In2<float> right, Loads load, Results<3> out, const Index& left_rows, const Index& right_rows) {
        check_size(out.shape(1), static_cast<int64_t>(left.shape(1)), "out");
        check_size(out.shape(2), static_cast<int64_t>(right.shape(1)), "out");
        const int64_t count = size_of(left_rows, left.shape(0));
        if (size_of(right_rows, right.shape(0)) != count) throw std::invalid_argument("left and right have different numbers of rows");
        const std::vector<int64_t> loads = checked_load(load, out.shape(0), count);
        const GatheredRows a{left.data(), static_cast<int64_t>(left.shape(1)), checked_index(left_rows, count, left.shape(0), "left_rows")};
        const GatheredRows b{right.data(), static_cast<int64_t>(right.shape(1)),
            checked_index(right_rows, count, right.shape(0), "right_rows")};
        nb::gil_scoped_release release;
        grouped_outer(loads, a, b, out.data());
      },
      "left"_a, "right"_a, "load"_a, "out"_a, nb::kw_only(), "left_rows"_a = nb::none(), "right_rows"_a = nb::none(),
      "The gradients of what `grouped_product` multiplies with: out [groups, m, n] becomes the sums of outer products of the rows of left "
      "[*, m] "
      "and right [*, n], over load [groups] of them for each group in turn.");
}

}  // namespace shortlist
