// The tokenizer's part of the Python module.
#include "bindings/bind_arrays.hpp"
#include "tokenizer/bpe.hpp"

namespace shortlist {

namespace {

nb::str to_str(std::string_view text) { return nb::str(text.data(), text.size()); }

}  // namespace

void bind_bpe(nb::module_& m) {
  nb::class_<Strings>(m, "Strings", "Many strings in one block; a sequence of str.")
      .def(
          "__init__",
          [](Strings* self, const std::vector<std::string>& strings) {
            new (self) Strings();
            for (const std::string& string : strings) self->add(string);
          },
          "strings"_a)
      .def_static(
          "read", [](In1<uint8_t> data, size_t count) {
            return std::make_shared<Strings>(Strings::read(data.data(), data.shape(0), count));
          },
          "data"_a, "count"_a, "From an array of a GGUF file, which may be followed by something else.")
      .def("__len__", &Strings::size)
      .def("__getitem__", [](const Strings& strings, size_t i) {
        if (i >= strings.size()) throw nb::index_error();
        return to_str(strings[i]);
      });
  m.def(
      "skip_strings", [](In1<uint8_t> data, size_t count) { return skip_strings(data.data(), data.shape(0), count); }, "data"_a, "count"_a,
      "Bytes that `count` strings of a GGUF file take. Raises ValueError if there are fewer.");

  nb::class_<Vocabulary>(m, "Vocabulary", "Strings that are found by their content.")
      .def(nb::init<std::shared_ptr<const Strings>>(), "pieces"_a)
      .def("__len__", &Vocabulary::size)
      .def_prop_ro("repeated", &Vocabulary::repeated, "How many are equal to a later one.")
      .def("find", [](const Vocabulary& v, const std::string& piece) { return v.find(piece); }, "piece"_a,
          "Its id, the last of several; -1 if it is not there.");

  nb::class_<Bpe>(m, "Bpe", "Byte-pair encoding of words.")
      .def_static("from_merges", &Bpe::from_merges, "vocabulary"_a, "merges"_a, "whole_words"_a = false,
                  "By a list of pairs \"left right\", best first.")
      .def_static(
          "from_scores",
          [](std::shared_ptr<const Vocabulary> vocabulary, In1<float> scores, int32_t unknown) {
            return Bpe::from_scores(std::move(vocabulary), {scores.data(), scores.data() + scores.shape(0)}, unknown);
          },
          "vocabulary"_a, "scores"_a, "unknown"_a = -1,
          "By a score for each piece, as SentencePiece does; -infinity for pieces that text is not merged into.")
      .def(
          "encode",
          [](const Bpe& bpe, const std::vector<std::string>& words) {
            nb::gil_scoped_release release;
            std::vector<int32_t> ids;
            for (const std::string& word : words) bpe.encode(word, ids);
            return ids;
          },
          "words"_a, "The ids of the words, one after the other.");
}

}  // namespace shortlist
