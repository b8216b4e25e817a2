// Byte-pair encoding with a vocabulary that takes little more memory than its text: a model of 100 MB may have a
// vocabulary of 262,144 pieces, which maps of strings would blow up to as much again.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace shortlist {

// Many strings in one block.
class Strings {
 public:
  // An array of a GGUF file: each string is its length in 8 bytes, then its bytes. Throws std::invalid_argument if they
  // do not fit into `bytes` or if one is not UTF-8.
  static Strings read(const uint8_t* data, size_t bytes, size_t count);

  void add(std::string_view string);
  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t i) const {
    const size_t start = i ? ends_[i - 1] : 0;
    return {text_.data() + start, ends_[i] - start};
  }

 private:
  std::string text_;
  std::vector<uint32_t> ends_;
};

// Where the strings after a length of 8 bytes each end, for whoever only skips them; throws std::invalid_argument if
// they do not fit into `bytes`.
size_t skip_strings(const uint8_t* data, size_t bytes, size_t count);

// Strings that are found by their content: a hash table of nothing but ids.
class Vocabulary {
 public:
  explicit Vocabulary(std::shared_ptr<const Strings> pieces);

  size_t size() const { return pieces_->size(); }
  std::string_view operator[](size_t id) const { return (*pieces_)[id]; }
  // -1: it is not there. Of several that are equal it is the last, as in llama.cpp.
  int32_t find(std::string_view piece) const;
  size_t repeated() const { return repeated_; }  // pieces that are equal to a later one

 private:
  size_t slot(std::string_view piece) const;  // that it is in, or an empty one

  std::shared_ptr<const Strings> pieces_;
  std::vector<int32_t> slots_;
  size_t repeated_ = 0;
};

// Joins, again and again, the neighbours whose union has the best score, the leftmost of equals. Where two kinds of
// vocabulary differ is what scores a union: its place in a list of pairs, or the piece that it is.
class Bpe {
 public:
  // Pairs "left right", best first. `whole_words`: a word that is a piece needs none of them. Characters that are not
  // in the vocabulary are dropped, before anything is joined. Throws std::invalid_argument if a part or a union is not in the vocabulary.
  static Bpe from_merges(std::shared_ptr<const Vocabulary> vocabulary, const Strings& merges, bool whole_words);

  // SentencePiece's: a score for each piece, -infinity for those that text is not merged into. Characters that are not
  // in the vocabulary become the pieces "<0xE2>" of their bytes or, if there are none, `unknown` (-1: dropped), one for
  // several in a row.
  static Bpe from_scores(std::shared_ptr<const Vocabulary> vocabulary, std::vector<float> scores, int32_t unknown);

  // Appends the ids of one word.
  void encode(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  struct Symbol;
  struct Join {
    float score;
    int32_t id;
  };
  explicit Bpe(std::shared_ptr<const Vocabulary> vocabulary) : vocabulary_(std::move(vocabulary)) {}
  Join join(const char* text, const Symbol& left, const Symbol& right) const;
  size_t pair_slot(uint64_t pair) const;
  void emit_unknown(std::string_view character, bool after_unknown, std::vector<int32_t>& ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<uint64_t> pairs_;  // hash table: ids of left and right
  std::vector<Join> joins_;      // for each of its slots
  std::vector<float> scores_;    // for each piece; empty where pairs are scored
  std::vector<int32_t> bytes_;   // pieces that stand for bytes; empty unless there are all 256
  int32_t unknown_ = -1;
  bool whole_words_ = false;
};

}  // namespace shortlist
