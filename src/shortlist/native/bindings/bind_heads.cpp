// The language-model head in the Python module.
#include "bindings/bind_arrays.hpp"
#include "sites/heads.hpp"

namespace shortlist {

namespace {

void check_limits(int64_t most, int probes) {
  if (probes < 1 || most < 1) throw std::invalid_argument("at least one probe and one row are needed");
}

nb::list of_winners(const std::vector<Winner>& winners) {
  nb::list all;
  for (const Winner& w : winners) all.append(nb::make_tuple(w.token, w.value, w.rows, w.upper));
  return all;
}

}  // namespace

void bind_heads(nb::module_& m) {
  auto query = [](const Head& head, const In1<float>& h) {
    check_size(h.shape(0), head.rows().view.cols, "the hidden state");
    return Query(h.data(), head.rows().view.cols);
  };
  auto queries = [](const Head& head, const In2<float>& h) {
    check_size(h.shape(1), head.rows().view.cols, "a hidden state");
    return Query(h.data(), static_cast<int>(h.shape(0)), head.rows().view.cols);
  };
  nb::class_<Head>(m, "Head", "The language-model head: all rows, or those that a bound leaves.")
      .def(
          "__init__",
          [](Head* self, Matrix rows) {
            nb::gil_scoped_release release;
            new (self) Head(std::move(rows));
          },
          "rows"_a, "Raises NotFinite where a row holds a weight that is not a finite number.")
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
          "dense_together",
          [queries](const Head& head, In2<float> h) {
            float* out;
            auto result = new_array<float>(h.shape(0), static_cast<size_t>(head.rows().view.rows), &out);
            nb::gil_scoped_release release;
            if (h.shape(0)) head.dense(queries(head, h), out);
            return result;
          },
          "hidden"_a, "The same for each of hidden [n, width]: float32 [n, rows].")
      .def(
          "dense_argmax",
          [queries](const Head& head, In2<float> h) {
            std::vector<Winner> winners;
            {
              nb::gil_scoped_release release;
              winners = head.dense_argmax(queries(head, h));
            }
            return of_winners(winners);
          },
          "hidden"_a, "For each of hidden [n, width]: (row, value, rows read, rows of which the upper plane was read) of the largest value.")
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
          [queries](Head& head, In2<float> h) {
            std::vector<Winner> winners;
            {
              nb::gil_scoped_release release;
              winners = head.certified_argmax(queries(head, h));
            }
            return of_winners(winners);
          },
          "hidden"_a, "As dense_argmax, provably, reading the lower plane of few rows.");

  nb::class_<Codes>(m, "Codes", "Coordinates of rows, the leading ones in 8 bits and the others in 4.")
      .def(
          "__init__",
          [](Codes* self, In2<int8_t> eight, In2<uint16_t> eight_scales, In2<uint8_t> four, In2<uint16_t> four_scales) {
            const size_t rows = eight.shape(0), eights = eight_scales.shape(1), fours = four_scales.shape(1);
            for (size_t n : {eight_scales.shape(0), four.shape(0), four_scales.shape(0)}) check_size(n, static_cast<int64_t>(rows), "rows of codes and scales");
            check_size(eight.shape(1), static_cast<int64_t>(eights * kGroup), "a row of 8-bit codes");
            check_size(four.shape(1), static_cast<int64_t>(fours * kGroup / 2), "a row of 4-bit codes");
            nb::gil_scoped_release release;
            new (self) Codes(eight.data(), eight_scales.data(), four.data(), four_scales.data(), static_cast<int64_t>(rows), static_cast<int>(eights), static_cast<int>(fours));
          },
          "eight"_a, "eight_scales"_a, "four"_a, "four_scales"_a,
          "Pack int8 [rows, 32 a] and uint8 [rows, 16 b], two codes + 8 to a byte, 16 columns apart, with float16 scales (as uint16) per 32 columns.")
      .def_prop_ro("nbytes", &Codes::bytes);

  nb::class_<LowRank>(m, "LowRank", "Low-rank estimate of all rows, with its spread.")
      .def(
          "__init__",
          [](LowRank* self, Matrix projection, std::shared_ptr<Codes> codes, In1<float> residual) { new (self) LowRank(projection, codes, to_vector(residual)); },
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
              low.estimate(query(head, h), head, values, spread);
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
            {
              nb::gil_scoped_release release;
              low.shortlist(query(head, h), head, sigma, most, probes, indices, values, estimates, unit);
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
          [queries](LowRank& low, Head& head, In2<float> h, float sigma, int64_t most, int probes) {
            check_limits(most, probes);
            std::vector<Winner> winners;
            {
              nb::gil_scoped_release release;
              winners = low.argmax(queries(head, h), head, sigma, most, probes);
            }
            return of_winners(winners);
          },
          "head"_a, "hidden"_a, "sigma"_a, "most"_a, "probes"_a = kProbes, "As dense_argmax, among the rows of the shortlist.");
}

}  // namespace shortlist
