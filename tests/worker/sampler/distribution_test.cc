// SPDX-License-Identifier: Apache-2.0
//
// What is sampled has the distribution that the parameters ask for: tokens
// counted over many seeds against a reference in double precision, one rule and
// one penalty at a time and together.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "worker/collective/local.h"
#include "worker/sampler/sampler.h"

namespace quire {
namespace {

constexpr int32_t kVocab = 61;
constexpr int32_t kRows = 500;                             // sampled at a time
constexpr int32_t kTimes = 40;                             // so 20,000 draws
const std::vector<TokenId> kTokens = {3, 5, 9, 5, 5, 20};  // 2 of the prompt
constexpr int32_t kNumPrompt = 2;

struct Case {
  std::string name;
  SlotSampling sampling;
  std::vector<uint32_t> mask = {};  // if it needs one
};

std::vector<float> Logits() {
  std::mt19937_64 random(11);
  std::normal_distribution<float> normal(0, 1.5f);
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = normal(random);
  logits[5] = 2.5f;  // what penalties reach
  logits[9] = 1.5f;
  logits[20] = -0.5f;
  return logits;
}

// The probability of each token, as kernels/sample.h and vLLM define it.
std::vector<double> Reference(const Case& c, const std::vector<float>& logits) {
  const SlotSampling& s = c.sampling;
  std::vector<double> x(logits.begin(), logits.end());
  const std::vector<TokenId> output(kTokens.begin() + kNumPrompt,
                                    kTokens.end());
  std::set<TokenId> banned;
  if (static_cast<int32_t>(output.size()) < s.min_tokens) {
    banned.insert(s.stop_token_ids.begin(), s.stop_token_ids.end());
  }
  for (const std::vector<TokenId>& word : s.bad_words) {
    if (word.size() - 1 <= output.size() &&
        std::equal(word.begin(), word.end() - 1,
                   output.end() - (word.size() - 1))) {
      banned.insert(word.back());
    }
  }
  for (const TokenBias& bias : s.logit_bias) x[bias.token_id] += bias.bias;
  for (TokenId id = 0; id < kVocab; ++id) {
    const auto count = std::count(output.begin(), output.end(), id);
    if (std::count(kTokens.begin(), kTokens.end(), id) > 0) {
      x[id] = x[id] > 0 ? x[id] / s.repetition_penalty
                        : x[id] * s.repetition_penalty;
    }
    x[id] -= s.frequency_penalty * count + (count > 0 ? s.presence_penalty : 0);
    x[id] /= s.temperature;
    const bool is_allowed =
        (s.allowed_token_ids.empty() ||
         std::count(s.allowed_token_ids.begin(), s.allowed_token_ids.end(),
                    id) > 0) &&
        (c.mask.empty() || (c.mask[id / 32] >> (id % 32) & 1) != 0);
    if (!is_allowed || banned.count(id) > 0) x[id] = -INFINITY;
  }
  std::vector<TokenId> order(kVocab);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](TokenId a, TokenId b) { return x[a] > x[b]; });
  std::vector<double> p(kVocab);
  double sum = 0;
  for (TokenId id = 0; id < kVocab; ++id) sum += p[id] = std::exp(x[id]);
  for (double& each : p) each /= sum;
  const double least = s.min_p * p[order[0]];
  for (int32_t i = 0; i < kVocab; ++i) {
    if (p[order[i]] < least || (s.top_k > 0 && i >= s.top_k)) p[order[i]] = 0;
  }
  const double kept = std::accumulate(p.begin(), p.end(), 0.0);
  double before = 0;
  for (int32_t i = 0; i < kVocab; ++i) {
    const double mine = p[order[i]];
    if (i > 0 && before >= s.top_p * kept) p[order[i]] = 0;
    before += mine;
  }
  const double last = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& each : p) each /= last;
  return p;
}

std::vector<int64_t> Draw(const Case& c, const std::vector<float>& logits) {
  LocalGroup group(1);
  FakeBackend backend;
  auto sampler =
      Sampler::Create(&backend, group.collective(0), {0, kVocab}, kRows);
  EXPECT_TRUE(sampler.ok()) << sampler.status();
  std::vector<float> rows;
  for (int32_t i = 0; i < kRows; ++i) {
    rows.insert(rows.end(), logits.begin(), logits.end());
  }
  std::vector<int64_t> counts(kVocab);
  for (int32_t time = 0; time < kTimes; ++time) {
    SlotLimits limits;
    limits.max_num_seqs = kRows;
    limits.max_model_len = limits.block_size = 16;
    limits.num_blocks = kRows;
    limits.vocab_size = kVocab;
    SlotStates slots(limits);
    StepPlan plan;
    std::vector<SlotId> ids;
    for (int32_t i = 0; i < kRows; ++i) {
      AdmittedSlot admitted;
      admitted.slot = SlotId(i);
      admitted.tokens = kTokens;
      admitted.num_prompt_tokens = kNumPrompt;
      admitted.sampling = c.sampling;
      admitted.sampling.seed = time * kRows + i;
      admitted.cache = std::vector<BlockId>{BlockId(i)};
      plan.admitted.push_back(admitted);
      ids.push_back(SlotId(i));
      if (c.sampling.needs_mask) plan.masks.push_back({SlotId(i), c.mask});
    }
    EXPECT_TRUE(slots.Apply(plan).ok());
    SampledTokens out;
    const absl::Status status =
        (*sampler)->Sample(rows.data(), ids, slots, &out);
    EXPECT_TRUE(status.ok()) << status;
    for (TokenId token : out.tokens) ++counts[token];
  }
  return counts;
}

void ExpectDistribution(const Case& c) {
  SCOPED_TRACE(c.name);
  const std::vector<float> logits = Logits();
  const std::vector<double> p = Reference(c, logits);
  const std::vector<int64_t> counts = Draw(c, logits);
  const double n = kRows * kTimes;
  double chi_square = 0, rest_expected = 0, rest_counted = 0;
  int32_t freedom = -1;
  for (TokenId id = 0; id < kVocab; ++id) {
    if (p[id] == 0) {
      EXPECT_EQ(counts[id], 0) << "token " << id;
    } else if (n * p[id] < 5) {  // too rare for the test's approximation
      rest_expected += n * p[id];
      rest_counted += static_cast<double>(counts[id]);
    } else {
      const double difference = static_cast<double>(counts[id]) - n * p[id];
      chi_square += difference * difference / (n * p[id]);
      ++freedom;
    }
  }
  if (rest_expected >= 5) {
    const double difference = rest_counted - rest_expected;
    chi_square += difference * difference / rest_expected;
    ++freedom;
  }
  if (freedom <= 0) return;  // one token is left
  // Mean `freedom`, variance twice that; a right sampler is four deviations
  // above in one of some thousands of runs, and here seeds are fixed.
  EXPECT_LT(chi_square, freedom + 4 * std::sqrt(2.0 * freedom))
      << freedom << " degrees of freedom";
}

SlotSampling With(float SlotSampling::*field, float value) {
  SlotSampling sampling;
  sampling.*field = value;
  return sampling;
}

TEST(DistributionTest, TemperaturesAndFilters) {
  for (float temperature : {0.3f, 1.f, 1.9f}) {
    ExpectDistribution(
        {"temperature", With(&SlotSampling::temperature, temperature)});
  }
  for (float top_p : {0.1f, 0.5f, 0.95f}) {
    ExpectDistribution({"top_p", With(&SlotSampling::top_p, top_p)});
  }
  for (float min_p : {0.02f, 0.3f, 1.f}) {
    ExpectDistribution({"min_p", With(&SlotSampling::min_p, min_p)});
  }
  for (int32_t top_k : {1, 2, 10, 60, 1000}) {
    SlotSampling sampling;
    sampling.top_k = top_k;
    ExpectDistribution({"top_k", sampling});
  }
}

TEST(DistributionTest, Penalties) {
  for (float penalty : {-2.f, -0.5f, 1.f, 2.f}) {
    ExpectDistribution(
        {"presence", With(&SlotSampling::presence_penalty, penalty)});
    ExpectDistribution(
        {"frequency", With(&SlotSampling::frequency_penalty, penalty)});
  }
  for (float penalty : {0.5f, 1.5f, 10.f}) {
    ExpectDistribution(
        {"repetition", With(&SlotSampling::repetition_penalty, penalty)});
  }
}

TEST(DistributionTest, BiasesMasksAndWords) {
  Case bias = {"logit_bias", {}};
  bias.sampling.logit_bias = {{0, 2}, {5, -3}, {20, 1.5f}, {60, -100}};
  ExpectDistribution(bias);
  Case allowed = {"allowed_token_ids", {}};
  allowed.sampling.allowed_token_ids = {0, 5, 31, 32, 33, 60};
  ExpectDistribution(allowed);
  Case words = {"bad_words", {}};
  words.sampling.bad_words = {{9}, {5, 20, 5}, {20, 0}, {5, 1}};
  ExpectDistribution(words);
  Case min_tokens = {"min_tokens", {}};
  min_tokens.sampling.min_tokens = 5;
  min_tokens.sampling.stop_token_ids = {5, 9};
  ExpectDistribution(min_tokens);
  Case mask = {"mask", {}, {0xf0f0f0f1u, 0x0000ffffu}};
  mask.sampling.needs_mask = true;
  ExpectDistribution(mask);
}

TEST(DistributionTest, AllTogetherInTheRightOrder) {
  Case all = {"all", {}, {~0u ^ 8u, 0x1fffff00u}};
  SlotSampling& s = all.sampling;
  s.temperature = 0.8f;
  s.logit_bias = {{5, -2.75f}, {9, 3}, {40, 1}};
  s.repetition_penalty = 1.4f;
  s.presence_penalty = 0.5f;
  s.frequency_penalty = -0.3f;
  s.bad_words = {{20, 41}, {50}};
  s.needs_mask = true;
  s.min_p = 0.01f;
  s.top_k = 30;
  s.top_p = 0.93f;
  ExpectDistribution(all);
}

// Bad words and the stop tokens of min_tokens give way where nothing else is
// left; a bias cannot bring back what is masked.
TEST(DistributionTest, MasksThatLeaveNothingGiveWay) {
  Case none = {"none", {}};
  none.sampling.allowed_token_ids = {7, 8};
  none.sampling.bad_words = {{7}};
  none.sampling.min_tokens = 10;
  none.sampling.stop_token_ids = {8};
  none.sampling.logit_bias = {{3, 100}};
  const std::vector<int64_t> counts = Draw(none, Logits());
  EXPECT_EQ(counts[7] + counts[8], int64_t{kRows} * kTimes);
  EXPECT_GT(counts[7], 0);
  EXPECT_GT(counts[8], 0);
}

}  // namespace
}  // namespace quire
