// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/beam_group.h"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {
namespace {

using Tokens = std::vector<TokenId>;

SamplingParams Sampling(int32_t width, int32_t max_tokens) {
  SamplingParams sampling;
  sampling.beam_width = width;
  sampling.n = width;
  sampling.best_of = width;
  sampling.max_tokens = max_tokens;
  return sampling;
}

SampledLogprobs After(const Tokens& tokens, const SamplingParams& sampling) {
  SampledLogprobs logprobs;
  logprobs.top =
      SimulatedTop(tokens, BeamGroup::SlotSamplingOf(sampling).num_logprobs);
  return logprobs;
}

// Runs a search whose results come in random order; checks every move.
std::vector<SequenceOutput> RunSearch(const Tokens& prompt,
                                      const SamplingParams& sampling,
                                      std::mt19937* random) {
  BeamGroup group(sampling);
  std::vector<Tokens> sequences(sampling.beam_width);
  std::vector<TokenId> sampled(sampling.beam_width);
  sequences[0] = prompt;
  while (!group.is_done()) {
    std::vector<int32_t> running;
    for (int32_t i = 0; i < group.num_sequences(); ++i) {
      if (group.IsRunning(i)) running.push_back(i);
    }
    std::shuffle(running.begin(), running.end(), *random);
    for (int32_t seq_idx : running) {
      EXPECT_FALSE(group.is_complete());
      // The ranks sample the likeliest token, or another one.
      const SampledLogprobs logprobs = After(sequences[seq_idx], sampling);
      sampled[seq_idx] = logprobs.top[(*random)() % 2].token_id;
      group.AddResult(seq_idx, sampled[seq_idx], logprobs);
    }
    EXPECT_TRUE(group.is_complete());
    const std::vector<Tokens> before = sequences;
    std::set<int32_t> taken, staying;
    for (const BeamGroup::Move& move : group.Advance()) {
      EXPECT_TRUE(taken.insert(move.seq_idx).second) << "one beam a sequence";
      EXPECT_EQ(std::count(running.begin(), running.end(), move.parent_idx), 1);
      if (move.seq_idx == move.parent_idx) {
        staying.insert(move.seq_idx);
      } else {
        // The better of two children has stayed in their parent's sequence.
        EXPECT_EQ(staying.count(move.parent_idx), 1);
      }
      EXPECT_EQ(move.is_sampled, move.token == sampled[move.parent_idx]);
      sequences[move.seq_idx] = before[move.parent_idx];
      sequences[move.seq_idx].push_back(move.token);
    }
  }
  std::vector<SequenceOutput> outputs;
  group.AppendOutputs(RequestKey(5), &outputs);
  return outputs;
}

// The search without sequences.
std::vector<Tokens> Expected(const Tokens& prompt,
                             const SamplingParams& sampling) {
  BeamSearchOptions options;
  options.width = sampling.beam_width;
  options.stop_token_ids = sampling.stop_token_ids;
  options.min_tokens = sampling.slot.min_tokens;
  options.max_tokens = sampling.max_tokens;
  BeamSearch search(options);
  std::vector<Tokens> beams = {prompt};
  while (!search.is_done()) {
    std::vector<std::vector<TopLogprob>> top;
    for (const Tokens& beam : beams) top.push_back(After(beam, sampling).top);
    search.Advance(
        std::vector<absl::Span<const TopLogprob>>(top.begin(), top.end()));
    std::vector<Tokens> next;
    for (const BeamSearch::Extension& extension : search.running()) {
      next.push_back(beams[extension.parent]);
      next.back().push_back(extension.token);
    }
    beams = next;
  }
  std::vector<Tokens> found;
  for (const BeamSearch::Hypothesis& hypothesis : search.hypotheses()) {
    found.push_back(search.OutputOf(hypothesis).tokens);
  }
  return found;
}

TEST(BeamGroupTest, SequencesCarryTheBeamsOfTheSearch) {
  std::mt19937 random(3);
  for (int32_t i = 0; i < 60; ++i) {
    const Tokens prompt = {i, 2 * i, 7};
    SamplingParams sampling =
        Sampling(2 + static_cast<int32_t>(random() % 15), 1 + i % 20);
    if (i % 2 == 0) {
      // Tokens that the search is about to meet.
      sampling.stop_token_ids = {Expected(prompt, sampling)[0].back(),
                                 Expected(prompt, sampling)[1][0]};
      sampling.slot.min_tokens = i % 3;
      std::sort(sampling.stop_token_ids.begin(), sampling.stop_token_ids.end());
      sampling.stop_token_ids.erase(std::unique(sampling.stop_token_ids.begin(),
                                                sampling.stop_token_ids.end()),
                                    sampling.stop_token_ids.end());
    }
    const std::vector<Tokens> expected = Expected(prompt, sampling);
    const std::vector<SequenceOutput> outputs =
        RunSearch(prompt, sampling, &random);
    ASSERT_EQ(outputs.size(), expected.size());
    for (size_t k = 0; k < outputs.size(); ++k) {
      EXPECT_EQ(outputs[k].request, RequestKey(5));
      EXPECT_EQ(outputs[k].index, k);
      EXPECT_EQ(outputs[k].token_offset, 0);
      EXPECT_EQ(Tokens(outputs[k].tokens.begin(), outputs[k].tokens.end()),
                expected[k]);
      const bool stopped = std::count(sampling.stop_token_ids.begin(),
                                      sampling.stop_token_ids.end(),
                                      outputs[k].tokens.back()) > 0;
      EXPECT_EQ(outputs[k].finish_reason,
                stopped ? FinishReason::kStop : FinishReason::kLength);
      EXPECT_EQ(outputs[k].stop_token_id,
                stopped ? outputs[k].tokens.back() : -1);
      EXPECT_TRUE(outputs[k].logprobs.empty());  // nobody asked
    }
  }
}

TEST(BeamGroupTest, LogprobsAreOfTheDistributionsThatTheBeamSaw) {
  std::mt19937 random(4);
  SamplingParams sampling = Sampling(4, 9);
  sampling.n = 2;
  sampling.slot.num_logprobs = 3;
  const Tokens prompt = {1, 2, 3};
  const std::vector<SequenceOutput> outputs =
      RunSearch(prompt, sampling, &random);
  ASSERT_EQ(outputs.size(), 2);
  for (const SequenceOutput& output : outputs) {
    Tokens history = prompt;
    ASSERT_EQ(output.logprobs.size(), output.tokens.size());
    for (size_t i = 0; i < output.tokens.size(); ++i) {
      const SampledLogprobs& logprobs = output.logprobs[i];
      const std::vector<TopLogprob> top = SimulatedTop(history, 16);
      EXPECT_EQ(logprobs.sample_idx, i);
      EXPECT_EQ(logprobs.top,
                std::vector<TopLogprob>(top.begin(), top.begin() + 3));
      EXPECT_EQ(top[logprobs.rank - 1],
                (TopLogprob{output.tokens[i], logprobs.logprob}));
      history.push_back(output.tokens[i]);
    }
  }
}

TEST(BeamGroupTest, ASlotReportsAsManyTokensAsTheSearchLooksAt) {
  SamplingParams sampling = Sampling(16, 4);
  sampling.stop_token_ids = {9, 2, 9};
  sampling.slot.min_tokens = 3;
  const SlotSampling slot = BeamGroup::SlotSamplingOf(sampling);
  EXPECT_EQ(slot.num_logprobs, 18);
  EXPECT_LE(slot.num_logprobs, kMaxSlotLogprobs);
  EXPECT_EQ(slot.temperature, 0);
  EXPECT_EQ(slot.min_tokens, 0);
  sampling.slot.num_logprobs = 20;  // the client wants to hear of more
  EXPECT_EQ(BeamGroup::SlotSamplingOf(sampling).num_logprobs, 20);
}

TEST(BeamGroupTest, DroppedResultsMustComeAgain) {
  const SamplingParams sampling = Sampling(2, 5);
  BeamGroup group(sampling);
  group.AddResult(0, 0, After({1}, sampling));
  group.Advance();
  group.AddResult(1, 0, After({1, 2}, sampling));
  group.DropResults();
  group.AddResult(0, 0, After({1, 3}, sampling));
  EXPECT_FALSE(group.is_complete());
  group.AddResult(1, 0, After({1, 2}, sampling));
  group.AddResult(1, 0, After({1, 2}, sampling));  // said twice is said
  EXPECT_TRUE(group.is_complete());
}

}  // namespace
}  // namespace quire
