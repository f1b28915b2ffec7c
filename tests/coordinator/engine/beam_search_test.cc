// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <tuple>
#include <vector>

#include "common/digest.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using Tokens = std::vector<TokenId>;

// A distribution over a small vocabulary for every history.
class RandomModel {
 public:
  RandomModel(uint64_t seed, int32_t vocab_size, bool has_ties)
      : seed_(seed), vocab_size_(vocab_size), has_ties_(has_ties) {}

  std::vector<float> LogProbs(const Tokens& history) const {
    uint64_t hash = seed_;
    for (TokenId token : history) hash = MixBits(hash ^ (token + 1));
    std::vector<float> logits(vocab_size_);
    double sum = 0;
    for (float& logit : logits) {
      hash = MixBits(hash);
      logit = has_ties_ ? static_cast<float>(hash % 4)
                        : static_cast<float>(hash >> 40) * 0x1p-22f;
      sum += std::exp(double{logit});
    }
    for (float& logit : logits) logit -= static_cast<float>(std::log(sum));
    return logits;
  }

  int32_t vocab_size() const { return vocab_size_; }

 private:
  uint64_t seed_;
  int32_t vocab_size_;
  bool has_ties_;
};

std::vector<TopLogprob> Top(const std::vector<float>& logprobs, int32_t num) {
  std::vector<TopLogprob> top;
  for (size_t token = 0; token < logprobs.size(); ++token) {
    top.push_back({static_cast<TokenId>(token), logprobs[token]});
  }
  std::stable_sort(top.begin(), top.end(), [](const auto& a, const auto& b) {
    return a.logprob > b.logprob;
  });
  top.resize(std::min<size_t>(num, top.size()));
  return top;
}

struct Found {
  Tokens tokens;
  float score = 0;

  friend bool operator==(const Found&, const Found&) = default;
};

// The rules as arrays over everything: -1e9 for what is not there, all
// width * vocabulary extensions ranked, the best max(2, 1 + stops) * width
// looked at. Equals in the order that beam_search.h documents.
class NaiveBeamSearch {
 public:
  NaiveBeamSearch(const RandomModel& model, const BeamSearchOptions& options)
      : model_(model), options_(options) {
    const int32_t num_stops =
        static_cast<int32_t>(options.stop_token_ids.size());
    num_kept_ = std::max(2, 1 + num_stops) * options.width;
  }

  std::vector<Found> Run() {
    running_.assign(options_.width, {});
    scores_.assign(options_.width, kNone);
    scores_[0] = 0;
    finished_.assign(options_.width, Finished{});
    while (Step()) {
    }
    std::vector<Found> found;
    for (const Finished& finished : finished_) {
      EXPECT_TRUE(finished.is_real);
      found.push_back({finished.tokens, finished.score});
    }
    return found;
  }

  int32_t num_steps() const { return num_steps_; }

 private:
  static constexpr float kNone = -1e9f;

  struct Finished {
    Tokens tokens;
    float score = kNone;
    bool is_real = false;
  };
  struct Extension {
    Tokens tokens;
    float score;
    bool ends;
  };

  bool IsStop(TokenId token) const {
    const Tokens& stops = options_.stop_token_ids;
    return std::find(stops.begin(), stops.end(), token) != stops.end();
  }

  float LengthPower(int32_t num_tokens) const {
    return static_cast<float>(std::pow(static_cast<double>(num_tokens),
                                       double{options_.length_penalty}));
  }

  std::vector<Extension> BestExtensions() {
    std::vector<std::tuple<float, int32_t, float, TokenId>> all;
    for (int32_t parent = 0; parent < options_.width; ++parent) {
      const std::vector<float> logprobs = model_.LogProbs(running_[parent]);
      for (TokenId token = 0; token < model_.vocab_size(); ++token) {
        const bool is_masked =
            num_steps_ < options_.min_tokens && IsStop(token);
        const float logprob = is_masked
                                  ? -std::numeric_limits<float>::infinity()
                                  : logprobs[token];
        all.push_back({-(scores_[parent] + logprob), parent, -logprob, token});
      }
    }
    std::sort(all.begin(), all.end());
    std::vector<Extension> best;
    for (int32_t i = 0; i < num_kept_; ++i) {
      const auto& [minus_score, parent, minus_logprob, token] = all[i];
      Extension extension = {running_[parent], -minus_score, false};
      extension.tokens.push_back(token);
      extension.ends = IsStop(token) || num_steps_ + 1 == options_.max_tokens;
      best.push_back(extension);
    }
    return best;
  }

  // Whether another step follows.
  bool Step() {
    const std::vector<Extension> best = BestExtensions();
    ++num_steps_;
    std::vector<int32_t> order(best.size());
    std::iota(order.begin(), order.end(), 0);
    const auto running_score = [&](int32_t i) {
      return best[i].ends ? best[i].score + kNone : best[i].score;
    };
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return running_score(a) > running_score(b);
    });
    for (int32_t beam = 0; beam < options_.width; ++beam) {
      running_[beam] = best[order[beam]].tokens;
      scores_[beam] = running_score(order[beam]);
    }
    for (int32_t place = 0; place < num_kept_; ++place) {
      const bool is_real = best[place].ends && place < options_.width;
      const float score = best[place].score / LengthPower(num_steps_);
      finished_.push_back(
          {best[place].tokens, is_real ? score : score + kNone, is_real});
    }
    std::stable_sort(
        finished_.begin(), finished_.end(),
        [](const auto& a, const auto& b) { return a.score > b.score; });
    finished_.resize(options_.width);

    const bool is_full =
        std::all_of(finished_.begin(), finished_.end(),
                    [](const Finished& finished) { return finished.is_real; });
    const float worst = is_full ? finished_.back().score : kNone;
    const bool is_longest_best =
        options_.early_stopping == EarlyStopping::kNever &&
        options_.length_penalty > 0;
    const float reachable =
        scores_[0] /
        LengthPower(is_longest_best ? options_.max_tokens : num_steps_);
    if (reachable <= worst) return false;
    if (is_full && options_.early_stopping == EarlyStopping::kTrue) {
      return false;
    }
    return !std::all_of(best.begin(), best.end(),
                        [](const Extension& e) { return e.ends; });
  }

  const RandomModel& model_;
  const BeamSearchOptions options_;
  int32_t num_kept_;
  int32_t num_steps_ = 0;
  std::vector<Tokens> running_;
  std::vector<float> scores_;
  std::vector<Finished> finished_;
};

// Drives a search as an engine does: histories follow the parents.
std::vector<Found> Search(const RandomModel& model,
                          const BeamSearchOptions& options,
                          int32_t* num_steps) {
  BeamSearch search(options);
  std::vector<Tokens> histories(1);
  while (!search.is_done()) {
    std::vector<std::vector<TopLogprob>> top;
    for (const Tokens& history : histories) {
      top.push_back(Top(model.LogProbs(history), search.num_candidates()));
    }
    const std::vector<absl::Span<const TopLogprob>> spans(top.begin(),
                                                          top.end());
    search.Advance(spans);
    std::vector<Tokens> next;
    for (const BeamSearch::Extension& extension : search.running()) {
      next.push_back(histories[extension.parent]);
      next.back().push_back(extension.token);
    }
    histories = next;
  }
  *num_steps = search.num_steps();
  std::vector<Found> found;
  for (const BeamSearch::Hypothesis& hypothesis : search.hypotheses()) {
    const BeamSearch::Output output = search.OutputOf(hypothesis);
    found.push_back({output.tokens, hypothesis.score});
    const Tokens& stops = options.stop_token_ids;
    EXPECT_EQ(hypothesis.stopped, std::count(stops.begin(), stops.end(),
                                             output.tokens.back()) == 1);
    // Each token is the rank-th likeliest after the ones before it.
    Tokens history;
    for (size_t i = 0; i < output.tokens.size(); ++i) {
      const auto top = Top(model.LogProbs(history), model.vocab_size());
      EXPECT_EQ(top[output.ranks[i]].token_id, output.tokens[i]);
      EXPECT_EQ(top[output.ranks[i]].logprob, output.logprobs[i]);
      history.push_back(output.tokens[i]);
    }
  }
  return found;
}

TEST(BeamSearchTest, RandomSearchesEqualTheNaiveOne) {
  std::mt19937_64 random(1);
  int32_t num_early = 0;
  constexpr int32_t kNumCases = 10000;
  for (int32_t i = 0; i < kNumCases; ++i) {
    BeamSearchOptions options;
    options.width = 1 + random() % 6;
    const float penalties[] = {0, 0.6f, 1, 2, -0.7f, 5};
    options.length_penalty = penalties[random() % 6];
    options.early_stopping = static_cast<EarlyStopping>(random() % 3);
    const int32_t num_stops = random() % 4;
    options.max_tokens = 1 + random() % 12;
    options.min_tokens = random() % 3 == 0 ? random() % 6 : 0;
    const int32_t vocab_size =
        std::max(2, 1 + num_stops) * options.width + num_stops + random() % 6;
    for (int32_t stop = 0; stop < num_stops; ++stop) {
      options.stop_token_ids.push_back(stop * 2);
    }
    if (num_stops * 2 > vocab_size) continue;
    const RandomModel model(random(), vocab_size, /*has_ties=*/i % 4 == 0);
    NaiveBeamSearch naive(model, options);
    const std::vector<Found> expected = naive.Run();
    int32_t num_steps = 0;
    ASSERT_EQ(Search(model, options, &num_steps), expected) << "case " << i;
    ASSERT_EQ(num_steps, naive.num_steps()) << "case " << i;
    num_early += num_steps < options.max_tokens;
  }
  // The early ends are worth something only if there are many.
  EXPECT_GT(num_early, kNumCases / 10);
  EXPECT_LT(num_early, kNumCases * 9 / 10);
}

// Two tokens and a stop token, 2, with probabilities that do not change.
std::vector<TopLogprob> Fixed(double a, double b, double stop) {
  return Top({static_cast<float>(std::log(a)), static_cast<float>(std::log(b)),
              static_cast<float>(std::log(stop))},
             3);
}

BeamSearchOptions Pair() {
  BeamSearchOptions options;
  options.width = 2;
  options.stop_token_ids = {2};
  options.max_tokens = 10;
  return options;
}

TEST(BeamSearchTest, ThePromptsOwnDistributionMakesTheFirstBeams) {
  BeamSearch search(Pair());
  EXPECT_EQ(search.num_running(), 1);
  const auto top = Fixed(0.3, 0.6, 0.1);
  search.Advance({top});
  ASSERT_EQ(search.num_running(), 2);
  EXPECT_EQ(search.running()[0], (BeamSearch::Extension{0, 1}));
  EXPECT_EQ(search.running()[1], (BeamSearch::Extension{0, 0}));
  EXPECT_TRUE(search.hypotheses().empty());  // the stop token came third
}

TEST(BeamSearchTest, AStopTokenBelowTheBestWidthEndsNothing) {
  BeamSearch search(Pair());
  const auto top = Fixed(0.2, 0.5, 0.3);
  search.Advance({top});
  EXPECT_EQ(search.hypotheses().size(), 1);
  EXPECT_EQ(search.num_running(), 2);
}

TEST(BeamSearchTest, EarlyStoppingEndsAtTheWidthThatWasAsked) {
  BeamSearchOptions options = Pair();
  options.early_stopping = EarlyStopping::kTrue;
  BeamSearch search(options);
  const auto top = Fixed(0.2, 0.2, 0.6);
  search.Advance({top});
  EXPECT_FALSE(search.is_done());
  search.Advance({top, top});
  EXPECT_TRUE(search.is_done());
  EXPECT_EQ(search.hypotheses().size(), 2);
  EXPECT_EQ(search.OutputOf(search.hypotheses()[0]).tokens, Tokens{2});
}

TEST(BeamSearchTest, NoStopTokenIsChosenBeforeMinTokens) {
  BeamSearchOptions options = Pair();
  options.min_tokens = 2;
  BeamSearch search(options);
  const auto top = Fixed(0.05, 0.05, 0.9);
  search.Advance({top});
  search.Advance({top, top});
  EXPECT_TRUE(search.hypotheses().empty());
  search.Advance({top, top});
  ASSERT_FALSE(search.hypotheses().empty());
  EXPECT_EQ(search.OutputOf(search.hypotheses()[0]).tokens.size(), 3);
}

TEST(BeamSearchTest, FewerBeamsRunThanTheVocabularyHasTokens) {
  BeamSearchOptions options = Pair();
  options.width = 8;
  options.max_tokens = 3;
  BeamSearch search(options);
  const auto top = Fixed(0.3, 0.3, 0.4);
  search.Advance({top});
  EXPECT_EQ(search.num_running(), 2);
  search.Advance({top, top});
  EXPECT_EQ(search.num_running(), 4);
  search.Advance({top, top, top, top});
  EXPECT_TRUE(search.is_done());
  // Two stop at once, two after one token, and 4 * 3 at the limit.
  EXPECT_EQ(search.hypotheses().size(), 8);
}

TEST(BeamSearchDeathTest, ABeamWithoutCandidatesIsABug) {
  BeamSearch search(Pair());
  EXPECT_DEATH(search.Advance({}), "candidates");
}

}  // namespace
}  // namespace quire
