#include "blocks/moe.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "kernels/kernels.hpp"

namespace shortlist {

// ---- the choice ---------------------------------------------------------------------------------------------------

// Indices of the k largest, in the order in which PyTorch's topk gives them on a CPU (aten/src/ATen/native/TopKImpl.h): these are its
// algorithms, so that of equal experts the same are chosen wherever the standard library is the one that PyTorch was built with.
static void top_k(const float* values, int count, int k, std::vector<std::pair<float, int32_t>>& queue) {
  queue.resize(static_cast<size_t>(count));
  for (int i = 0; i < count; i++) queue[static_cast<size_t>(i)] = {values[i], i};
  auto before = [](const auto& a, const auto& b) { return (std::isnan(a.first) && !std::isnan(b.first)) || a.first > b.first; };
  if (k * 64 <= count) {
    std::partial_sort(queue.begin(), queue.begin() + k, queue.end(), before);
  } else {
    std::nth_element(queue.begin(), queue.begin() + k - 1, queue.end(), before);
    std::sort(queue.begin(), queue.begin() + k - 1, before);
  }
  queue.resize(static_cast<size_t>(k));
}

static void softmax(float* values, int count) {
  const float top = *std::max_element(values, values + count);
  float sum = 0.0f;
  for (int i = 0; i < count; i++) sum += values[i] = std::exp(values[i] - top);
  for (int i = 0; i < count; i++) values[i] /= sum;
}

void Router::choose(float* scores, std::vector<Choice>& chosen) const {
  chosen.clear();
  if (!per_token) {
    const float least = *std::max_element(scores, scores + experts()) + margin;
    for (int e = 0; e < experts(); e++)
      if (!(scores[e] < least)) chosen.push_back({e, 1.0f});  // NaN must reach the output
    return;
  }
  std::vector<std::pair<float, int32_t>> best;
  if (!price.empty()) {
    Vector prices(scores, scores + experts());
    for (int e = 0; e < experts(); e++) prices[static_cast<size_t>(e)] -= price[static_cast<size_t>(e)];
    top_k(prices.data(), experts(), per_token, best);
  }
  softmax(scores, experts());
  if (price.empty()) top_k(scores, experts(), per_token, best);
  for (auto& [value, expert] : best) value = scores[expert];
  float sum = 1.0f;
  if (normalize) sum = std::accumulate(best.begin(), best.end(), 0.0f, [](float total, const auto& one) { return total + one.first; });
  for (const auto& [value, expert] : best) chosen.push_back({expert, value / sum});
  std::sort(chosen.begin(), chosen.end(), [](const Choice& a, const Choice& b) { return a.expert < b.expert; });
}

// ---- scratch ------------------------------------------------------------------------------------------------------

MixtureScratch::MixtureScratch(const Sizes& widths)
    : inner_(static_cast<int>(widths[2])), gathered_(static_cast<int>(widths[3])), routed_(widths[0]), shared_(widths[1]) {}

void MixtureScratch::Hidden::reserve(int64_t pairs) {
  activations.reserve(static_cast<int>(pairs));
  for (Vector* v : {&gate, &up}) grow(*v, static_cast<size_t>(pairs * width));
}

void MixtureScratch::reserve(int tokens, int members, int experts, int most) {
  members_.resize(std::max(members_.size(), static_cast<size_t>(members)));
  grow(scores_, static_cast<size_t>(tokens) * static_cast<size_t>(experts));
  chosen_.resize(std::max(chosen_.size(), static_cast<size_t>(tokens)));
  inner_.reserve(tokens);
  routed_.reserve(most);
  shared_.reserve(tokens);
}

// ---- the layer ----------------------------------------------------------------------------------------------------

static void check_block(const Expert& block, int64_t width, int64_t cols, Activation activation, const char* name) {
  if (block.gate || !has_zeros(activation)) check_matrix({block.gate}, width, cols, name);
  check_matrix({block.up}, width, cols, name);
  check_matrix({block.down}, cols, width, name);
}

static void check_router(const Router& router, int64_t experts, int64_t width) {
  const int64_t inputs = router.hidden ? router.hidden->view.rows : width;
  check_matrix({router.rows}, experts, inputs, "router");
  if (router.hidden) check_matrix({router.hidden}, inputs, width, "router_hidden");
  if (!router.bias.empty()) check_vector(router.bias, experts, "router_bias");
  if (!router.price.empty()) check_vector(router.price, experts, "router_price");
  if (!router.hidden_bias.empty()) check_vector(router.hidden_bias, inputs, "router_hidden_bias");
  if (router.per_token < 0 || router.per_token > experts)
    throw std::invalid_argument("a token cannot choose " + std::to_string(router.per_token) + " of " + std::to_string(experts) + " experts");
}

Mixture::Mixture(std::optional<Router> router, std::shared_ptr<SharedRouter> router_of_all, std::vector<Expert> experts, std::optional<Expert> shared,
                 Matrix shared_gate, Activation activation)
    : router_(std::move(router)), router_of_all_(std::move(router_of_all)), experts_(std::move(experts)), shared_(std::move(shared)),
      shared_gate_(std::move(shared_gate)), activation_(activation), loads_(experts_.size()) {
  if (experts_.empty() || !experts_[0].up) throw std::invalid_argument("a mixture needs experts");
  const int64_t cols = experts_[0].up->view.cols, width = experts_[0].width();
  if (router_) check_router(*router_, this->experts(), cols);
  if (!router_ && (!router_of_all_ || router_of_all_->experts() != this->experts() || router_of_all_->width() != cols))
    throw std::invalid_argument("a mixture without a router needs a shared one with as many experts, of the same width");
  for (const Expert& expert : experts_) check_block(expert, width, cols, activation_, "experts");
  if (shared_) {
    if (!shared_->up) throw std::invalid_argument("the shared expert has no up projection");
    check_block(*shared_, shared_->width(), cols, activation_, "shared");
  }
  if (shared_gate_) check_matrix({shared_gate_}, 1, cols, "shared_gate");
}

Bytes Mixture::bytes() const {
  size_t always = (shared_ ? shared_->bytes() : 0) + (shared_gate_ ? shared_gate_->bytes() : 0);
  if (router_) always += router_->rows->bytes() + (router_->hidden ? router_->hidden->bytes() : 0);
  const size_t each = experts_[0].bytes(), most = static_cast<size_t>(router_ ? router_->most() : 1);
  return {always + each * experts_.size(), always, each * most, static_cast<int64_t>(each) * std::accumulate(loads_.begin(), loads_.end(), int64_t{0})};
}

Sizes Mixture::sizes() const {
  return {experts_[0].width(), shared_ ? shared_->width() : 0, router_ && router_->hidden ? router_->hidden->view.rows : 0, width()};
}

void Mixture::reserve(Context& context) const {
  context.make<MixtureScratch>(sizes()).reserve(context.count, context.members, experts(), router_ ? router_->most() : 1);
}

std::vector<std::shared_ptr<Prelude>> Mixture::preludes() const {
  if (router_) return {};
  return {router_of_all_};
}

void Mixture::inner(Pass& pass, const Batch& x) {
  MixtureScratch& scratch = pass.context.get<MixtureScratch>(sizes());
  MixtureScratch::Member& own = scratch.members_[static_cast<size_t>(pass.team.id)];
  const int32_t* route = router_ ? nullptr : router_of_all_->route(pass.context);
  if (router_) score(pass, x, scratch.scores_.data());
  if (pass.own.alone)
    plan_one(scratch, own, x, route);
  else
    plan_many(pass.team, scratch, x, route);
  hidden_units(pass.team, plan(pass, scratch), own);
}

void Mixture::output(Pass& pass, float* out, const Rows* next) {
  MixtureScratch& scratch = pass.context.get<MixtureScratch>(sizes());
  const Plan& planned = plan(pass, scratch);
  add_up(pass.team, planned, scratch.members_[static_cast<size_t>(pass.team.id)], pass.context.count, out);
  if (next) fetch_start(pass.team, *next);
  if (pass.team.id == 0)
    for (const auto& group : planned.groups)
      if (group.hidden == &scratch.routed_) loads_[static_cast<size_t>(group.block - experts_.data())] += group.count;
}

// This member's share of out[t, r] = row r . x_t + bias[r].
static Team::Range multiply_few(Team& team, const Rows& rows, const Vector& bias, const Batch& x, float* out, size_t stride) {
  const auto share = team.share(rows.view.rows, x.tokens == 1 ? 4 : 16);
  const size_t count = static_cast<size_t>(share.end - share.begin);
  if (!count) return share;
  kernels().gemm(rows.view, x, share.begin, share.end, out + share.begin, stride);
  if (!bias.empty())
    for (int t = 0; t < x.tokens; t++) kernels().add(bias.data() + share.begin, static_cast<int>(count), out + static_cast<size_t>(t) * stride + share.begin);
  return share;
}

void Mixture::score(Pass& pass, const Batch& x, float* scores) const {
  Team& team = pass.team;
  const Router& router = *router_;
  Batch inputs = x;
  if (router.hidden) {
    Activations& inner = pass.context.get<MixtureScratch>(sizes()).inner_;
    inputs = inner.batch(x.tokens);
    const auto share = multiply_few(team, *router.hidden, router.hidden_bias, x, inner.x(0), static_cast<size_t>(inputs.padded));
    for (int t = 0; t < x.tokens; t++)
      for (int64_t r = share.begin; r < share.end; r++) {
        float& value = inner.x(t)[r];
        value = value < 0.0f ? 0.0f : value;  // NaN stays NaN
      }
    team.barrier();
  }
  multiply_few(team, *router.rows, router.bias, inputs, scores, static_cast<size_t>(experts()));
  team.barrier();
}

float Mixture::shared_weight(const Batch& token) const {
  if (!shared_gate_) return 1.0f;
  float gate;
  kernels().dot_range(shared_gate_->view, token, 0, 1, &gate);
  return 1.0f / (1.0f + std::exp(-gate));
}

void Mixture::add_shared(Plan& plan, MixtureScratch& scratch, const Batch& x) const {
  if (!shared_) return;
  plan.groups.push_back({&*shared_, x, static_cast<int>(plan.pairs.size()), x.tokens, &scratch.shared_, 0});
  for (int t = 0; t < x.tokens; t++) plan.pairs.push_back({t, shared_weight(x.token(t))});
}

void Mixture::choose(float* scores, const int32_t* route, int64_t token, std::vector<Choice>& chosen) const {
  if (router_)
    router_->choose(scores, chosen);
  else
    chosen.assign(1, {route[token], 1.0f});
}

void Mixture::plan_one(MixtureScratch& scratch, MixtureScratch::Member& own, const Batch& x, const int32_t* route) const {
  own.scores.assign(scratch.scores_.begin(), scratch.scores_.begin() + experts());
  choose(own.scores.data(), route, 0, own.chosen);
  own.plan.groups.clear();
  own.plan.pairs.clear();
  for (const Choice& choice : own.chosen) {
    const int place = static_cast<int>(own.plan.pairs.size());
    own.plan.groups.push_back({&experts_[static_cast<size_t>(choice.expert)], x, place, 1, &scratch.routed_, place});
    own.plan.pairs.push_back({0, choice.weight});
  }
  add_shared(own.plan, scratch, x);
}

void Mixture::plan_many(Team& team, MixtureScratch& scratch, const Batch& x, const int32_t* route) const {
  const int experts = this->experts();
  Plan& plan = scratch.plan_;
  const auto mine = team.share(x.tokens);
  for (int64_t t = mine.begin; t < mine.end; t++) choose(&scratch.scores_[static_cast<size_t>(t * experts)], route, t, scratch.chosen_[static_cast<size_t>(t)]);
  team.barrier();
  if (team.id == 0) {
    // Pairs of token and expert, sorted by expert: their places are counted first.
    std::vector<int> place(static_cast<size_t>(experts) + 1);
    for (int t = 0; t < x.tokens; t++)
      for (const Choice& choice : scratch.chosen_[static_cast<size_t>(t)]) place[static_cast<size_t>(choice.expert) + 1]++;
    std::partial_sum(place.begin(), place.end(), place.begin());
    const int pairs = place.back();
    scratch.gathered_.reserve(pairs);
    scratch.routed_.reserve(pairs);
    const Batch gathered = scratch.gathered_.batch(pairs);
    plan.groups.clear();
    for (int e = 0; e < experts; e++) {
      const int first = place[static_cast<size_t>(e)], count = place[static_cast<size_t>(e) + 1] - first;
      if (count) plan.groups.push_back({&experts_[static_cast<size_t>(e)], gathered.slice(first, count), first, count, &scratch.routed_, first});
    }
    plan.pairs.resize(static_cast<size_t>(pairs));
    for (int t = 0; t < x.tokens; t++)
      for (const Choice& choice : scratch.chosen_[static_cast<size_t>(t)])
        plan.pairs[static_cast<size_t>(place[static_cast<size_t>(choice.expert)]++)] = {t, choice.weight};
    add_shared(plan, scratch, x);
  }
  team.barrier();
  const auto gathered = team.share(static_cast<int64_t>(plan.pairs.size()) - (shared_ ? x.tokens : 0));
  for (int64_t p = gathered.begin; p < gathered.end; p++) scratch.gathered_.copy(x.token(plan.pairs[static_cast<size_t>(p)].token), static_cast<int>(p));
  team.barrier();
}

namespace {

// Shares out the rows of several matrices as if they lay behind each other. A row costs what it is read and unpacked for, about as
// much as two tokens, and its tokens.
class RowShares {
 public:
  template <class Groups>
  RowShares(const Team& team, const Groups& groups) {
    int64_t total = 0;
    for (const auto& group : groups) total += units(group) * cost(group);
    begin_ = total * team.id / team.size;
    end_ = total * (team.id + 1) / team.size;
  }
  // This member's rows of the group that comes next.
  template <class Group>
  Team::Range next(const Group& group) {
    const int64_t each = cost(group), rows = group.block->width(), count = units(group);
    auto row = [&](int64_t at) { return std::min(rows, std::clamp<int64_t>((at - passed_ + each - 1) / each, 0, count) * kGrain); };
    const Team::Range mine{row(begin_), row(end_)};
    passed_ += count * each;
    return mine;
  }

 private:
  template <class Group>
  static int64_t units(const Group& group) { return (group.block->width() + kGrain - 1) / kGrain; }
  template <class Group>
  static int64_t cost(const Group& group) { return group.count + 2; }
  int64_t begin_, end_, passed_ = 0;
};

}  // namespace

void Mixture::hidden_units(Team& team, const Plan& plan, MixtureScratch::Member& own) const {
  RowShares shares(team, plan.groups);
  own.rows.clear();
  for (const auto& group : plan.groups) own.rows.push_back(shares.next(group));
  for (size_t g = 0; g < plan.groups.size(); g++) {
    const auto& group = plan.groups[g];
    const auto rows = own.rows[g];
    if (rows.begin >= rows.end) continue;
    const Expert& block = *group.block;
    if (block.gate) fetch_start(*block.up, rows);
    if (g + 1 < plan.groups.size()) fetch_start(plan.groups[g + 1].block->first(), own.rows[g + 1]);
    const size_t width = static_cast<size_t>(block.width()), first = static_cast<size_t>(group.at) * width;
    MixtureScratch::Hidden& hidden = *group.hidden;
    if (block.gate) kernels().gemm(block.gate->view, group.x, rows.begin, rows.end, &hidden.gate[first + static_cast<size_t>(rows.begin)], width);
    kernels().gemm(block.up->view, group.x, rows.begin, rows.end, &hidden.up[first + static_cast<size_t>(rows.begin)], width);
    for (int i = 0; i < group.count; i++) {
      const size_t at = first + static_cast<size_t>(i) * width + static_cast<size_t>(rows.begin);
      activate(activation_, block.gate ? &hidden.gate[at] : &hidden.up[at], block.gate ? &hidden.up[at] : nullptr, static_cast<int>(rows.end - rows.begin),
               hidden.activations.x(group.at + i) + rows.begin);
      hidden.activations.quantize(group.at + i, rows.begin, rows.end);
    }
  }
  fetch_start(*plan.groups[0].block->down, columns_of(team));
}

void Mixture::add_up(Team& team, const Plan& plan, MixtureScratch::Member& own, int tokens, float* out) const {
  // Each member adds up its own columns of every token, expert by expert in ascending order.
  const auto columns = columns_of(team);
  const size_t count = static_cast<size_t>(columns.end - columns.begin), stride = static_cast<size_t>(width());
  if (!count) return;
  for (int t = 0; t < tokens; t++) std::fill_n(out + static_cast<size_t>(t) * stride + columns.begin, count, 0.0f);
  for (size_t g = 0; g < plan.groups.size(); g++) {
    const auto& group = plan.groups[g];
    if (g + 1 < plan.groups.size()) fetch_start(*plan.groups[g + 1].block->down, columns);
    const Batch hidden = group.hidden->activations.batch(group.at + group.count).slice(group.at, group.count);
    own.products.resize(std::max(own.products.size(), static_cast<size_t>(group.count) * count));
    kernels().gemm(group.block->down->view, hidden, columns.begin, columns.end, own.products.data(), count);
    for (int i = 0; i < group.count; i++) {
      const auto& pair = plan.pairs[static_cast<size_t>(group.first + i)];
      const float* product = &own.products[static_cast<size_t>(i) * count];
      float* to = out + static_cast<size_t>(pair.token) * stride + columns.begin;
      for (size_t c = 0; c < count; c++) to[c] += pair.weight * product[c];
    }
  }
}

}  // namespace shortlist
