#include "tokenizer/bpe.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <queue>
#include <stdexcept>

namespace shortlist {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr uint64_t kNoPair = ~uint64_t{0};

// The size of a hash table: a power of two, of which at least half stays empty.
size_t table_size(size_t count) {
  size_t size = 16;
  while (size < 2 * count) size *= 2;
  return size;
}

// Bytes of the UTF-8 character at the start of `text`; 0 if there is none.
size_t character_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; i++)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  // An overlong form, half of a surrogate pair, or a number beyond the last character.
  const bool wrong = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) >= 0xA0) || (first == 0xF0 && byte(1) < 0x90) ||
                     (first == 0xF4 && byte(1) >= 0x90);
  return wrong ? 0 : length;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = character_length(text);
    if (!length) return false;
    text.remove_prefix(length);
  }
  return true;
}

// Calls `use` with each string and its number; returns the bytes that they take.
template <class Use>
size_t each_string(const uint8_t* data, size_t bytes, size_t count, Use use) {
  size_t position = 0;
  for (size_t i = 0; i < count; i++) {
    uint64_t length;
    if (bytes - position < sizeof length) throw std::invalid_argument("strings are cut short");
    std::memcpy(&length, data + position, sizeof length);
    position += sizeof length;
    if (length > bytes - position) throw std::invalid_argument("strings are cut short");
    use(i, std::string_view(reinterpret_cast<const char*>(data) + position, static_cast<size_t>(length)));
    position += static_cast<size_t>(length);
  }
  return position;
}

}  // namespace

// ---- strings ------------------------------------------------------------------------------------------------------

size_t skip_strings(const uint8_t* data, size_t bytes, size_t count) {
  return each_string(data, bytes, count, [](size_t, std::string_view) {});
}

Strings Strings::read(const uint8_t* data, size_t bytes, size_t count) {
  const size_t all = skip_strings(data, bytes, count);
  Strings strings;
  strings.text_.reserve(all - count * sizeof(uint64_t));
  strings.ends_.reserve(count);
  each_string(data, bytes, count, [&](size_t i, std::string_view string) {
    if (!is_utf8(string)) throw std::invalid_argument("string " + std::to_string(i) + " is not UTF-8");
    strings.add(string);
  });
  return strings;
}

void Strings::add(std::string_view string) {
  if (text_.size() + string.size() > std::numeric_limits<uint32_t>::max()) throw std::invalid_argument("strings take more than 4 GB");
  text_ += string;
  ends_.push_back(static_cast<uint32_t>(text_.size()));
}

// ---- vocabulary ---------------------------------------------------------------------------------------------------

Vocabulary::Vocabulary(std::shared_ptr<const Strings> pieces) : pieces_(std::move(pieces)), slots_(table_size(pieces_->size()), -1) {
  for (size_t id = 0; id < pieces_->size(); id++) {
    int32_t& found = slots_[slot((*pieces_)[id])];
    if (found >= 0) repeated_++;
    found = static_cast<int32_t>(id);
  }
}

size_t Vocabulary::slot(std::string_view piece) const {
  const size_t mask = slots_.size() - 1;
  size_t i = std::hash<std::string_view>{}(piece) & mask;
  while (slots_[i] >= 0 && (*pieces_)[static_cast<size_t>(slots_[i])] != piece) i = (i + 1) & mask;
  return i;
}

int32_t Vocabulary::find(std::string_view piece) const { return slots_[slot(piece)]; }

// ---- pair encoding ------------------------------------------------------------------------------------------------

struct Bpe::Symbol {
  uint32_t start, length;  // length 0: joined to its left neighbour
  int32_t previous, next;  // -1: none
  int32_t id;              // -1: a character that is not in the vocabulary
};

Bpe Bpe::from_merges(std::shared_ptr<const Vocabulary> vocabulary, const Strings& merges, bool whole_words) {
  Bpe bpe(std::move(vocabulary));
  bpe.whole_words_ = whole_words;
  bpe.pairs_.assign(table_size(merges.size()), kNoPair);
  bpe.joins_.resize(bpe.pairs_.size());
  std::string both;
  for (size_t i = 0; i < merges.size(); i++) {
    const std::string_view merge = merges[i];
    const size_t space = std::min(merge.find(' '), merge.size());
    const std::string_view left = merge.substr(0, space), right = merge.substr(std::min(space + 1, merge.size()));
    both.assign(left).append(right);
    const int32_t ids[] = {bpe.vocabulary_->find(left), bpe.vocabulary_->find(right), bpe.vocabulary_->find(both)};
    if (ids[0] < 0 || ids[1] < 0 || ids[2] < 0)
      throw std::invalid_argument("merge " + std::to_string(i) + " is of what is not in the vocabulary");
    const uint64_t pair = static_cast<uint64_t>(ids[0]) << 32 | static_cast<uint32_t>(ids[1]);
    const size_t slot = bpe.pair_slot(pair);
    bpe.pairs_[slot] = pair;
    bpe.joins_[slot] = {-static_cast<float>(i), ids[2]};
  }
  return bpe;
}

Bpe Bpe::from_scores(std::shared_ptr<const Vocabulary> vocabulary, std::vector<float> scores, int32_t unknown) {
  if (scores.size() != vocabulary->size()) throw std::invalid_argument("each piece needs one score");
  if (unknown < -1 || unknown >= static_cast<int64_t>(vocabulary->size()))
    throw std::invalid_argument("the piece for what is unknown is not in the vocabulary");
  Bpe bpe(std::move(vocabulary));
  bpe.scores_ = std::move(scores);
  bpe.unknown_ = unknown;
  for (int byte = 0; byte < 256; byte++) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    const int32_t id = bpe.vocabulary_->find(name);
    if (id < 0) {
      bpe.bytes_.clear();
      break;
    }
    bpe.bytes_.push_back(id);
  }
  return bpe;
}

size_t Bpe::pair_slot(uint64_t pair) const {
  const size_t mask = pairs_.size() - 1;
  size_t i = (pair * 0x9E3779B97F4A7C15ull >> 32) & mask;
  while (pairs_[i] != kNoPair && pairs_[i] != pair) i = (i + 1) & mask;
  return i;
}

Bpe::Join Bpe::join(const char* text, const Symbol& left, const Symbol& right) const {
  if (!scores_.empty()) {
    const int32_t id = vocabulary_->find({text + left.start, left.length + right.length});
    return {id < 0 ? kNever : scores_[static_cast<size_t>(id)], id};
  }
  const uint64_t pair = static_cast<uint64_t>(left.id) << 32 | static_cast<uint32_t>(right.id);
  const size_t slot = pair_slot(pair);
  return pairs_[slot] == pair ? joins_[slot] : Join{kNever, -1};
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (word.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) throw std::invalid_argument("a text of more than 2 GB");
  if (whole_words_)
    if (const int32_t id = vocabulary_->find(word); id >= 0) return ids.push_back(id);

  std::vector<Symbol> symbols;
  for (size_t at = 0; at < word.size();) {
    const size_t length = character_length(word.substr(at));
    if (!length) throw std::invalid_argument("the text is not UTF-8");
    const int32_t i = static_cast<int32_t>(symbols.size()), id = vocabulary_->find(word.substr(at, length));
    if (id >= 0 || !scores_.empty()) symbols.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(length), i - 1, i + 1, id});
    at += length;
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  struct Candidate {
    float score;
    int32_t left, id;
    uint32_t length;  // length of the union; it differs once a part was joined to another neighbour
    bool operator<(const Candidate& other) const { return score != other.score ? score < other.score : left > other.left; }
  };
  std::priority_queue<Candidate> candidates;
  auto consider = [&](int32_t left) {
    if (left < 0 || symbols[left].next < 0) return;
    const Symbol &a = symbols[left], &b = symbols[a.next];
    if (const Join found = join(word.data(), a, b); found.score > kNever)
      candidates.push({found.score, left, found.id, a.length + b.length});
  };
  for (size_t i = 0; i < symbols.size(); i++) consider(static_cast<int32_t>(i));

  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.left];
    if (!left.length || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    if (left.length + right.length != best.length) continue;
    left.length = best.length;
    left.id = best.id;
    left.next = right.next;
    right.length = 0;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    consider(left.previous);
    consider(best.left);
  }

  bool after_unknown = false;
  for (int32_t i = 0; i >= 0; i = symbols[i].next) {
    const Symbol& symbol = symbols[i];
    if (symbol.id >= 0)
      ids.push_back(symbol.id);
    else
      emit_unknown(word.substr(symbol.start, symbol.length), after_unknown, ids);
    after_unknown = symbol.id < 0;
  }
}

void Bpe::emit_unknown(std::string_view character, bool after_unknown, std::vector<int32_t>& ids) const {
  if (!bytes_.empty())
    for (const char byte : character) ids.push_back(bytes_[static_cast<uint8_t>(byte)]);
  else if (unknown_ >= 0 && !after_unknown)
    ids.push_back(unknown_);
}

}  // namespace shortlist
