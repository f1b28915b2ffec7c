// SPDX-License-Identifier: Apache-2.0
//
// Requests whose tokens wait for masks, and prompts that are scored: exact
// whatever happens to the group meanwhile.
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "coordinator/engine/engine_core.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

EngineOptions Options() {
  EngineOptions options;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 16;
  options.max_model_len = 256;
  options.block_size = 4;
  return options;
}

// A seventh of the vocabulary, another one after every output.
std::vector<uint32_t> Rule(const std::vector<TokenId>& outputs) {
  uint64_t hash = 0;
  for (TokenId token : outputs) hash = MixBits(hash ^ token);
  std::vector<uint32_t> words((kSimulatedVocabSize + 31) / 32);
  for (TokenId id = static_cast<TokenId>(hash % 7); id < kSimulatedVocabSize;
       id += 7) {
    words[id / 32] |= uint32_t{1} << (id % 32);
  }
  return words;
}

EngineRequest MakeMasked(const std::string& id, int32_t num_prompt_tokens,
                         int32_t max_tokens, int32_t n, uint64_t seed) {
  EngineRequest request = MakeRequest(id, num_prompt_tokens, max_tokens, seed);
  request.sampling.n = request.sampling.best_of = n;
  request.sampling.slot.needs_mask = true;
  request.first_mask = Rule({});
  for (TokenId stop = 3; stop < kSimulatedVocabSize; stop += 40) {
    request.sampling.stop_token_ids.push_back(stop);
  }
  return request;
}

// Gives masks as a gateway does, some steps late.
class Masker {
 public:
  explicit Masker(EngineHarness* engine) : engine_(*engine) {
    engine_.Listen([this](const SequenceOutput& output) { Hear(output); });
  }

  void Own(RequestKey key) { owned_.insert(key); }

  // Until nothing happens any more. `random` decides whether a result or a mask
  // comes next.
  void Run(std::mt19937_64* random) {
    while (true) {
      engine_.Plan();
      const bool first_mask = (*random)() % 3 == 0;
      if (first_mask && Give()) continue;
      if (engine_.Deliver()) continue;
      if (!Give()) return;
    }
  }

  bool Give() {
    if (due_.empty()) return false;
    const auto [key, index] = due_.front();
    due_.pop_front();
    const std::vector<TokenId>& outputs = outputs_[{key, index}];
    engine_.core().SetMask(key, index, outputs.size(), Rule(outputs));
    return true;
  }

 private:
  void Hear(const SequenceOutput& output) {
    if (owned_.count(output.request) == 0 || output.tokens.empty()) return;
    const std::pair key(output.request, output.index);
    std::vector<TokenId>& outputs = outputs_[key];
    outputs.insert(outputs.end(), output.tokens.begin(), output.tokens.end());
    if (output.finish_reason == FinishReason::kNone) due_.push_back(key);
  }

  EngineHarness& engine_;
  std::set<RequestKey> owned_;
  std::map<std::pair<RequestKey, int32_t>, std::vector<TokenId>> outputs_;
  std::deque<std::pair<RequestKey, int32_t>> due_;
};

std::vector<TokenId> ExpectedMasked(const EngineRequest& request,
                                    int32_t index) {
  SamplingParams sampling = request.sampling;
  sampling.slot.seed = SequenceSeed(sampling.slot.seed, index);
  return SimulatedStream(request.prompt, sampling, Rule);
}

// Masked and plain requests together; `disturb` may do what it likes between.
void RunMixed(const EngineOptions& options, int32_t num_blocks, uint64_t seed,
              const std::function<void(EngineHarness*)>& disturb = nullptr) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  EngineHarness engine(options, num_blocks);
  Masker masker(&engine);
  std::vector<std::pair<RequestKey, EngineRequest>> masked, plain;
  for (int32_t i = 0; i < 6; ++i) {
    EngineRequest request =
        MakeMasked(absl::StrCat("m", i), 1 + 7 * i, 30, 1 + i % 3, random());
    masked.push_back({engine.MustSubmit(request), request});
    masker.Own(masked.back().first);
    request = MakeRequest(absl::StrCat("p", i), 1 + 5 * i, 25, random());
    plain.push_back({engine.MustSubmit(request), request});
  }
  if (disturb != nullptr) {
    for (int32_t i = 0; i < 20; ++i) {
      engine.Plan();
      engine.Deliver();
      if (i % 2 == 0) masker.Give();
    }
    disturb(&engine);
  }
  masker.Run(&random);
  for (const auto& [key, request] : masked) {
    for (int32_t index = 0; index < request.sampling.n; ++index) {
      EXPECT_EQ(engine.Heard(key, index).tokens, ExpectedMasked(request, index))
          << request.request_id << " sequence " << index;
    }
  }
  for (const auto& [key, request] : plain) {
    EXPECT_EQ(engine.Heard(key).tokens, ExpectedStream(request));
  }
  engine.ExpectClean();
}

TEST(EngineMasksTest, MaskedRequestsWaitForTheirMasksAndOthersRunAhead) {
  for (int depth : {1, 2, 3}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      EngineOptions options = Options();
      options.run_ahead_depth = depth;
      RunMixed(options, /*num_blocks=*/200, seed);
    }
  }
}

TEST(EngineMasksTest, PreemptionDoesNotShow) {
  for (int depth : {1, 2}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      EngineOptions options = Options();
      options.run_ahead_depth = depth;
      options.forced_preemption_period = 3;
      RunMixed(options, /*num_blocks=*/200, seed);
      options.forced_preemption_period = 0;
      RunMixed(options, /*num_blocks=*/60, seed);  // too few for all
    }
  }
}

TEST(EngineMasksTest, ALostGroupAndAResyncDoNotShow) {
  EngineOptions options = Options();
  options.on_group_lost = OnGroupLostAction::kRequeue;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    RunMixed(options, 200, seed, [](EngineHarness* engine) {
      engine->LoseGroup("pulled the plug");
      engine->BeginGroup();
    });
    RunMixed(options, 200, seed, [](EngineHarness* engine) {
      engine->workers().CorruptNextDigest();
    });
  }
}

TEST(EngineMasksTest, APlanThatSamplesBringsTheMask) {
  EngineHarness engine(Options(), 64);
  engine.KeepPlans();
  const RequestKey key = engine.MustSubmit(MakeMasked("a", 5, 3, 1, 9));
  engine.Plan();
  ASSERT_EQ(engine.plans().size(), 1);
  ASSERT_EQ(engine.plans()[0].masks.size(), 1);
  EXPECT_EQ(engine.plans()[0].masks[0].words, Rule({}));
  EXPECT_TRUE(engine.plans()[0].admitted[0].sampling.needs_mask);
  engine.Deliver();
  EXPECT_EQ(engine.Plan(), 0);  // it waits
  const std::vector<TokenId> outputs = engine.Heard(key).tokens;
  engine.core().SetMask(key, 0, /*num_outputs=*/0, Rule({}));
  EXPECT_EQ(engine.Plan(), 0);  // a mask of what was
  engine.core().SetMask(key, 1, 1, Rule(outputs));
  EXPECT_EQ(engine.Plan(), 0);  // there is no such sequence
  engine.core().SetMask(key, 0, 1, Rule(outputs));
  EXPECT_EQ(engine.Plan(), 1);
  EXPECT_EQ(engine.plans()[1].masks[0].words, Rule(outputs));
  engine.Finish(key, FinishReason::kCancelled);
  engine.core().SetMask(key, 0, 2, Rule(outputs));  // gone
  engine.RunUntilIdle();
  engine.ExpectClean();
}

// Every prompt token's log probability once and in order, before the outputs.
void RunScored(const EngineOptions& options, int32_t num_blocks,
               uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  EngineHarness engine(options, num_blocks);
  std::map<RequestKey, std::vector<float>> heard;
  engine.Listen([&](const SequenceOutput& output) {
    if (output.prompt_logprobs.empty()) return;
    EXPECT_EQ(output.index, 0);
    EXPECT_TRUE(output.tokens.empty());
    EXPECT_TRUE(engine.Heard(output.request).tokens.empty());
    for (size_t i = 0; i < output.prompt_logprobs.size(); ++i) {
      EXPECT_EQ(output.prompt_logprobs[i].sample_idx, i);
      heard[output.request].push_back(output.prompt_logprobs[i].logprob);
    }
  });
  std::vector<std::pair<RequestKey, EngineRequest>> requests;
  for (int32_t i = 0; i < 8; ++i) {
    // Equal prompts, of which some would find the others'.
    EngineRequest request =
        MakeRequest(absl::StrCat("r", i), 1 + 11 * (i / 2), 12, seed);
    request.sampling.n = request.sampling.best_of = 1 + i % 3;
    if (i != 3) request.sampling.slot.num_prompt_logprobs = i;
    requests.push_back({engine.MustSubmit(request), request});
  }
  engine.RunUntilIdle();
  for (const auto& [key, request] : requests) {
    std::vector<float> expected;
    if (request.sampling.slot.num_prompt_logprobs >= 0) {
      for (size_t i = 1; i < request.prompt.size(); ++i) {
        expected.push_back(-static_cast<float>(request.prompt[i]));
      }
    }
    EXPECT_EQ(heard[key], expected) << request.request_id;
    for (int32_t index = 0; index < request.sampling.n; ++index) {
      EXPECT_EQ(engine.Heard(key, index).tokens,
                ExpectedStream(request, index));
    }
  }
  engine.ExpectClean();
}

TEST(EngineMasksTest, EveryPromptTokenIsScoredOnceInOrder) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    EngineOptions options = Options();
    RunScored(options, 200, seed);
    options.forced_preemption_period = 2;
    RunScored(options, 200, seed);
    options.max_num_batched_tokens = 9;
    RunScored(options, 40, seed);
    options.enable_prefix_caching = false;
    RunScored(options, 40, seed);
  }
}

}  // namespace
}  // namespace quire
