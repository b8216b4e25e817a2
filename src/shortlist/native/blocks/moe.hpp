// Mixtures of experts: feed-forward layers of which a token computes only the experts that a router chooses for it.
//
// Tokens that choose the same expert meet it together, so that a prompt reads it once. One token's experts are one piece of work that
// the team shares out by rows, whichever experts they are.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "blocks/block.hpp"
#include "blocks/shared_router.hpp"
#include "sites/neurons.hpp"

namespace shortlist {

// down(activation(gate x) * up x); without a gate, down(activation(up x)).
struct Expert {
  Matrix gate, up, down;

  int64_t width() const { return up->view.rows; }
  const Rows& first() const { return gate ? *gate : *up; }  // that is read
  size_t bytes() const { return (gate ? gate->bytes() : 0) + up->bytes() + down->bytes(); }
};

struct Choice {
  int32_t expert;
  float weight;
};

// Scores all experts and chooses: so many of the largest by softmax, which gives the weights, or all whose score is not far
// below the largest, with weight 1 (D2DMoE, https://arxiv.org/abs/2310.04361).
struct Router {
  Matrix rows;             // [experts, width], floats
  int per_token = 0;       // 0: those not far below
  bool normalize = false;  // weights of the chosen are divided by their sum
  float margin = 0.0f;     // how far below, without per_token
  Matrix hidden;           // if there, rows are multiplied with relu(hidden x + hidden_bias)
  Vector hidden_bias, bias;
  Vector price;  // if there, taken off the scores, with `per_token`: for the choice alone, not for the weights

  const Matrix& first() const { return hidden ? hidden : rows; }  // that is read
  int experts() const { return static_cast<int>(rows->view.rows); }
  int most() const { return per_token ? per_token : experts(); }  // that one token can choose
  // The experts of one token, ascending. `scores` [experts] is overwritten.
  void choose(float* scores, std::vector<Choice>& chosen) const;
};

// What a forward pass through mixtures of the same widths writes to.
class MixtureScratch {
 public:
  // Widths of an expert, of the shared one, of the router's hidden layer (0: there is none), and of the mixture.
  explicit MixtureScratch(const Sizes& widths);
  // Room for what each member of the team does, and for `tokens` of which each chooses `most` of `experts`.
  void reserve(int tokens, int members, int experts, int most);

 private:
  friend class Mixture;
  struct Pair {
    int32_t token;
    float weight;
  };
  // Hidden units of pairs of token and block, for blocks of one width.
  struct Hidden {
    explicit Hidden(int64_t width) : width(width), activations(static_cast<int>(width)) {}
    void reserve(int64_t pairs);
    const int64_t width;
    Vector gate, up;
    Activations activations;
  };
  // The tokens that meet one block: pairs [first, first + count), which lie in `hidden` from place `at` on.
  struct Group {
    const Expert* block;
    Batch x;
    int first, count;
    Hidden* hidden;
    int at;
  };
  struct Plan {
    std::vector<Pair> pairs;
    std::vector<Group> groups;
  };
  struct Member {
    Plan plan;  // of one token, which every member plans for itself
    std::vector<Choice> chosen;
    Vector scores, products;
    std::vector<Team::Range> rows;  // of each group's hidden units, what this member computes
  };

  std::vector<Member> members_;
  Plan plan_;  // of several tokens
  Vector scores_;
  Activations inner_;                        // of the router
  std::vector<std::vector<Choice>> chosen_;  // by token
  Activations gathered_;                     // inputs of pairs, expert by expert
  Hidden routed_, shared_;
};

class Mixture : public Block {
 public:
  // `shared` is computed for every token, times the sigmoid of the row `shared_gate`, if that is there. Without a router a token takes
  // one expert, with weight 1, that `router_of_all` chose. Throws std::invalid_argument where sizes do not fit.
  Mixture(std::optional<Router> router, std::shared_ptr<SharedRouter> router_of_all, std::vector<Expert> experts, std::optional<Expert> shared,
          Matrix shared_gate, Activation activation);

  int width() const override { return experts_[0].up->view.cols; }
  Bytes bytes() const override;
  void reserve(Context& context) const override;
  void inner(Pass& pass, const Batch& x) override;
  void output(Pass& pass, float* out, const Rows* next) override;
  const Rows* first() const override { return router_ ? router_->first().get() : nullptr; }
  std::vector<std::shared_ptr<Prelude>> preludes() const override;

  int experts() const { return static_cast<int>(experts_.size()); }
  const std::optional<Router>& router() const { return router_; }
  const std::vector<int64_t>& loads() const { return loads_; }  // tokens that chose each expert so far
  // The router's scores of all experts for x [tokens, width], [tokens, experts]: what one member of the team does. Ends with a barrier.
  void score(Pass& pass, const Batch& x, float* scores) const;

 private:
  using Plan = MixtureScratch::Plan;
  Sizes sizes() const;
  // What is computed in this pass: of one token each member has a plan of its own.
  Plan& plan(Pass& pass, MixtureScratch& scratch) const { return pass.own.alone ? scratch.members_[static_cast<size_t>(pass.team.id)].plan : scratch.plan_; }
  float shared_weight(const Batch& token) const;
  void add_shared(Plan& plan, MixtureScratch& scratch, const Batch& x) const;
  // The experts of a token, by its scores, which are overwritten, or by `route`.
  void choose(float* scores, const int32_t* route, int64_t token, std::vector<Choice>& chosen) const;
  void plan_one(MixtureScratch& scratch, MixtureScratch::Member& own, const Batch& x, const int32_t* route) const;
  void plan_many(Team& team, MixtureScratch& scratch, const Batch& x, const int32_t* route) const;
  Team::Range columns_of(Team& team) const { return team.share(width(), kGrain); }  // of the output, what this member computes
  void hidden_units(Team& team, const Plan& plan, MixtureScratch::Member& own) const;
  void add_up(Team& team, const Plan& plan, MixtureScratch::Member& own, int tokens, float* out) const;

  std::optional<Router> router_;
  std::shared_ptr<SharedRouter> router_of_all_;
  std::vector<Expert> experts_;
  std::optional<Expert> shared_;
  Matrix shared_gate_;
  Activation activation_;
  std::vector<int64_t> loads_;
};

}  // namespace shortlist
