// Byte-pair encoding with a vocabulary that takes little more memory than its text. A model of 100 MB may have a
// vocabulary of 262,144 pieces, for which maps of strings would take another 100 MB.
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

// The end of `count` strings, each after its length of 8 bytes, for readers that skip them; throws std::invalid_argument
// if they do not fit into `bytes`.
size_t skip_strings(const uint8_t* data, size_t bytes, size_t count);

// Strings with a lookup by content: a hash table that holds only ids.
class Vocabulary {
 public:
  explicit Vocabulary(std::shared_ptr<const Strings> pieces);

  size_t size() const { return pieces_->size(); }
  std::string_view operator[](size_t id) const { return (*pieces_)[id]; }
  // The id of a piece, or -1. Among equal pieces the last one is found, as in llama.cpp.
  int32_t find(std::string_view piece) const;
  size_t repeated() const { return repeated_; }  // number of pieces that equal a later one

 private:
  size_t slot(std::string_view piece) const;  // the slot of a piece, or an empty slot

  std::shared_ptr<const Strings> pieces_;
  std::vector<int32_t> slots_;
  size_t repeated_ = 0;
};

// Repeatedly joins the two neighbours whose union has the best score; among equals, the leftmost. The two kinds of
// vocabulary differ in the score of a union: the rank of its pair in a list, or a score of the piece.
class Bpe {
 public:
  // Pairs "left right", best first. `whole_words`: a word that is a piece is taken without joins. Characters that are not
  // in the vocabulary are dropped before joining. Throws std::invalid_argument if a part or a union is not in the vocabulary.
  static Bpe from_merges(std::shared_ptr<const Vocabulary> vocabulary, const Strings& merges, bool whole_words);

  // SentencePiece: a score for each piece, -infinity for pieces that no join makes. Characters that are not in the
  // vocabulary become the pieces "<0xE2>" of their bytes. Without such pieces, a run of them becomes one `unknown`
  // (-1: dropped).
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
  std::vector<Join> joins_;      // for each slot of `pairs_`
  std::vector<float> scores_;    // for each piece; empty where pairs are scored
  std::vector<int32_t> bytes_;   // pieces for bytes; empty unless there are all 256
  int32_t unknown_ = -1;
  bool whole_words_ = false;
};

}  // namespace shortlist
