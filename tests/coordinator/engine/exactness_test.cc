// SPDX-License-Identifier: Apache-2.0
//
// A request's tokens depend on the request alone: not on who else runs, how
// prompts are cut, how large blocks are, who is preempted, or how far the
// engine runs ahead.
#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"
#include "tests/coordinator/engine/exactness_setting.h"

namespace quire {
namespace {

constexpr int kNumPrompts = 64;

// Mixed lengths; every third may stop early, some of those late by min_tokens.
std::vector<EngineRequest> Requests() {
  std::vector<EngineRequest> requests;
  for (int i = 0; i < kNumPrompts; ++i) {
    EngineRequest request = MakeRequest(absl::StrCat("r", i), 1 + i * 37 % 300,
                                        1 + i * 13 % 60, /*seed=*/i + 1);
    if (i % 3 == 0) {
      // About one token in twenty stops it.
      for (TokenId id = i; id < kSimulatedVocabSize; id += 20) {
        request.sampling.stop_token_ids.push_back(id);
      }
      request.sampling.slot.stop_token_ids = request.sampling.stop_token_ids;
      request.sampling.slot.min_tokens =
          std::min(i % 7, request.sampling.max_tokens);
    }
    if (i % 5 == 0) request.sampling.slot.num_logprobs = 1;
    requests.push_back(std::move(request));
  }
  return requests;
}

class ExactnessTest : public testing::TestWithParam<Setting> {};

TEST_P(ExactnessTest, EveryStreamIsThatOfTheRequestAlone) {
  const Setting& setting = GetParam();
  EngineHarness engine(OptionsOf(setting), setting.num_blocks);
  std::vector<RequestKey> keys;
  const std::vector<EngineRequest> requests = Requests();
  for (const EngineRequest& request : requests) {
    keys.push_back(engine.MustSubmit(request));
  }
  engine.RunUntilIdle();
  int num_stopped = 0;
  for (int i = 0; i < kNumPrompts; ++i) {
    const EngineRequest& request = requests[i];
    const HeardStream& heard = engine.Heard(keys[i]);
    EXPECT_EQ(heard.tokens, SimulatedStream(request.prompt, request.sampling))
        << "request " << i;
    EXPECT_EQ(heard.num_last_words, 1);
    EXPECT_EQ(heard.num_logprobs, i % 5 == 0 ? heard.tokens.size() : 0);
    if (heard.finish_reason == FinishReason::kStop) {
      EXPECT_EQ(heard.stop_token_id, heard.tokens.back());
      ++num_stopped;
    } else {
      EXPECT_EQ(heard.finish_reason, FinishReason::kLength);
      EXPECT_EQ(heard.tokens.size(), request.sampling.max_tokens);
    }
  }
  EXPECT_GT(num_stopped, 5);
  if (setting.must_preempt) {
    EXPECT_GT(engine.core().Stats().num_preemptions, 0);
  }
  engine.ExpectClean();
}

// 360 tokens, the longest prompt with its outputs, fit every pool below.
INSTANTIATE_TEST_SUITE_P(Alone, ExactnessTest,
                         testing::Values(Setting{1, 512, 16, 64, 0, 1},
                                         Setting{1, 512, 16, 64, 0, 2},
                                         Setting{1, 16, 1, 400, 0, 3}),
                         Name);
INSTANTIATE_TEST_SUITE_P(BatchSizes, ExactnessTest,
                         testing::Values(Setting{2, 512, 16, 256, 0, 2},
                                         Setting{8, 512, 16, 512, 0, 2},
                                         Setting{64, 512, 16, 2048, 0, 2}),
                         Name);
INSTANTIATE_TEST_SUITE_P(ChunkSizes, ExactnessTest,
                         testing::Values(Setting{64, 16, 16, 2048, 0, 2},
                                         Setting{64, 33, 16, 2048, 0, 2},
                                         Setting{64, 64, 16, 2048, 0, 3},
                                         Setting{64, 128, 16, 2048, 0, 1},
                                         Setting{64, 256, 16, 2048, 0, 2}),
                         Name);
INSTANTIATE_TEST_SUITE_P(BlockSizes, ExactnessTest,
                         testing::Values(Setting{32, 256, 1, 4000, 0, 2},
                                         Setting{32, 256, 2, 2000, 0, 2},
                                         Setting{32, 256, 8, 500, 0, 2},
                                         Setting{32, 256, 32, 128, 0, 2},
                                         Setting{32, 256, 128, 32, 0, 2}),
                         Name);
INSTANTIATE_TEST_SUITE_P(TinyPools, ExactnessTest,
                         testing::Values(Setting{64, 256, 16, 23, 0, 1, true},
                                         Setting{64, 256, 16, 30, 0, 2, true},
                                         Setting{64, 256, 16, 60, 0, 3, true},
                                         Setting{64, 64, 1, 400, 0, 2, true},
                                         Setting{64, 512, 128, 3, 0, 2, true}),
                         Name);
INSTANTIATE_TEST_SUITE_P(ForcedPreemption, ExactnessTest,
                         testing::Values(Setting{64, 256, 16, 2048, 2, 2, true},
                                         Setting{64, 128, 16, 2048, 3, 1, true},
                                         Setting{16, 64, 8, 300, 5, 3, true},
                                         Setting{64, 512, 16, 40, 7, 2, true},
                                         Setting{64, 16, 1, 500, 4, 2, true}),
                         Name);
// Smaller than most prompts, and pools of a few of them.
INSTANTIATE_TEST_SUITE_P(
    Windows, ExactnessTest,
    testing::Values(Setting{8, 64, 16, 2048, 0, 2, false, 24},
                    Setting{64, 512, 16, 2048, 3, 2, true, 24},
                    Setting{64, 64, 4, 24, 5, 2, true, 33}),
    Name);

}  // namespace
}  // namespace quire
