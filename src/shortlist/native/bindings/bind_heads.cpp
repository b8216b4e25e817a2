// The language-model head in the Python module.
#include "bindings/bind_arrays.hpp"
#include "sites/heads.hpp"
#include "sites/scorers.hpp"

namespace shortlist {

namespace {

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
          "hidden"_a, "For each of hidden [n, width]: (row, value, rows read, rows of which the upper plane was read) of the largest "
          "value.")
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
          "scores",
          [query](const Head& head, const Scorer& scorer, const In1<float>& h) {
            float *values, *reach;
            const size_t n = static_cast<size_t>(head.rows().view.rows);
            auto all_values = new_array<float>(n, &values), all_reach = new_array<float>(n, &reach);
            {
              nb::gil_scoped_release release;
              head.scores(scorer, query(head, h), values, reach);
            }
            return nb::make_tuple(all_values, all_reach);
          },
          "scorer"_a, "hidden"_a, "(values, scale times margins), float32 [rows] each.")
      .def(
          "argmax",
          [queries](Head& head, const Scorer& scorer, In2<float> h, const Policy& policy) {
            std::vector<Winner> winners;
            {
              nb::gil_scoped_release release;
              winners = head.argmax(scorer, queries(head, h), policy);
            }
            return of_winners(winners);
          },
          "scorer"_a, "hidden"_a, "policy"_a, "As dense_argmax, among the rows of the shortlist.")
      .def(
          "shortlist",
          [query](const Head& head, const Scorer& scorer, const In1<float>& h, const Policy& policy) {
            std::vector<int32_t> rows;
            {
              nb::gil_scoped_release release;
              rows = head.shortlist(scorer, query(head, h), policy);
            }
            int32_t* out;
            auto result = new_array<int32_t>(rows.size(), &out);
            std::copy(rows.begin(), rows.end(), out);
            return result;
          },
          "scorer"_a, "hidden"_a, "policy"_a, "The rows of the shortlist, ascending.")
      .def(
          "distribution",
          [query](const Head& head, const Scorer& scorer, const In1<float>& h, const Policy& policy, double share) {
            float* logits;
            auto result = new_array<float>(static_cast<size_t>(head.rows().view.rows), &logits);
            int64_t rows;
            {
              nb::gil_scoped_release release;
              rows = head.distribution(scorer, query(head, h), policy, share, logits);
            }
            return nb::make_tuple(result, rows);
          },
          "scorer"_a, "hidden"_a, "policy"_a, "share"_a,
          "(logits float32 [rows], rows read): at most `share` of the mass is left to estimates.");

  nb::class_<Policy>(m, "Policy", "Which mark the upper end of a row must reach.")
      .def_static(
          "probes",
          [](float times, std::optional<int64_t> most, int probes) {
            if (probes < 1 || most.value_or(1) < 1) throw std::invalid_argument("at least one probe and one row are needed");
            Policy policy;
            policy.times = times;
            policy.probes = probes;
            if (most) policy.most = *most;
            return policy;
          },
          "times"_a, "most"_a.none() = nb::none(), "probes"_a = kProbes,
          "The best exact value among the best rows by score of so many blocks.")
      .def_static(
          "kth_best",
          [](int64_t fetch) {
            if (fetch < 1) throw std::invalid_argument("at least one row is needed");
            Policy policy;
            policy.mark = Policy::Mark::KthBest;
            policy.fetch = fetch;
            return policy;
          },
          "fetch"_a, "The score of the so many best row.")
      .def_static(
          "threshold",
          [](float threshold, float times) {
            Policy policy;
            policy.times = times;
            policy.mark = Policy::Mark::Threshold;
            policy.threshold = threshold;
            return policy;
          },
          "threshold"_a, "times"_a = 0.0f, "A given score, which the upper end is to reach.");

  nb::class_<Scorer>(m, "Scorer", "An estimator's kernel: it scores all rows of a head.")
      .def_prop_ro("nbytes", &Scorer::bytes, "Bytes that a query reads.");
  nb::class_<ExactProducts, Scorer>(m, "ExactProducts", "The product itself.").def(nb::init<Matrix>(), "rows"_a);
  nb::class_<UpperPlanes, Scorer>(m, "UpperPlanes", "The upper planes of 8-bit rows: |exact - value| <= margin always.")
      .def(nb::init<Matrix>(), "rows"_a);

  nb::class_<Codes>(m, "Codes", "Coordinates of rows, the leading ones in 8 bits and the others in 4.")
      .def(
          "__init__",
          [](Codes* self, In2<int8_t> eight, In2<uint16_t> eight_scales, In2<uint8_t> four, In2<uint16_t> four_scales) {
            const size_t rows = eight.shape(0), eights = eight_scales.shape(1), fours = four_scales.shape(1);
            for (size_t n : {eight_scales.shape(0), four.shape(0), four_scales.shape(0)})
              check_size(n, static_cast<int64_t>(rows), "rows of codes and scales");
            check_size(eight.shape(1), static_cast<int64_t>(eights * kGroup), "a row of 8-bit codes");
            check_size(four.shape(1), static_cast<int64_t>(fours * kGroup / 2), "a row of 4-bit codes");
            nb::gil_scoped_release release;
            new (self) Codes(eight.data(), eight_scales.data(), four.data(), four_scales.data(), static_cast<int64_t>(rows),
                static_cast<int>(eights), static_cast<int>(fours));
          },
          "eight"_a, "eight_scales"_a, "four"_a, "four_scales"_a,
          "Pack int8 [rows, 32 a] and uint8 [rows, 16 b], two codes + 8 to a byte, 16 columns apart, with float16 scales (as uint16) per "
          "32 columns.")
      .def_prop_ro("nbytes", &Codes::bytes);

  nb::class_<LowRank, Scorer>(m, "LowRank", "A few coordinates of all rows, which lie in groups of one rank each.")
      .def(
          "__init__",
          [](LowRank* self, Matrix projection, std::vector<std::shared_ptr<Codes>> groups, In1<float> residual, int rank,
              In1<int32_t> order) {
            new (self) LowRank(std::move(projection), std::move(groups), to_vector(residual), rank,
                std::vector<int32_t>(order.data(), order.data() + order.shape(0)));
          },
          "projection"_a, "groups"_a, "residual"_a, "rank"_a, "order"_a,
          "projection [directions, width]; groups of Codes of the rows in turn; residual [rows]; order: which row lies at each place, or "
          "empty.");
}

}  // namespace shortlist
