// SPDX-License-Identifier: Apache-2.0
//
// Replica groups of CPU ranks behind one router: a request's tokens are bitwise
// those of one group alone, whichever group it runs in and even if that group
// is lost under it; prompts go where their prefix is; work spreads.
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/integration/in_process.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

constexpr int kVocabSize = 4096;
constexpr int kNumRequests = 24;

std::vector<TokenId> RandomTokens(int num_tokens, uint64_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(num_tokens);
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(random() % kVocabSize);
  }
  return tokens;
}

// Greedy and sampled, some with siblings, some beams, a third alike in front.
std::vector<EngineRequest> Requests() {
  std::vector<EngineRequest> requests(kNumRequests);
  for (int i = 0; i < kNumRequests; ++i) {
    EngineRequest& request = requests[i];
    request.request_id = absl::StrCat("r", i);
    if (i % 3 == 0) request.prompt = RandomTokens(40, /*seed=*/1);
    const std::vector<TokenId> own = RandomTokens(3 + 2 * i, 100 + i);
    request.prompt.insert(request.prompt.end(), own.begin(), own.end());
    SamplingParams& sampling = request.sampling;
    sampling.max_tokens = 16 + i % 5;
    sampling.slot.seed = 7 * i;
    sampling.slot.temperature = i % 2 == 0 ? 0.0f : 0.9f;
    if (i % 4 == 1) sampling.slot.top_p = 0.9f;
    if (i % 8 == 5) sampling.n = sampling.best_of = 2;
    if (i % 12 == 7) {
      sampling.slot = SlotSampling();
      sampling.slot.temperature = 0;
      sampling.beam_width = 3;
      sampling.n = sampling.best_of = 2;
    }
  }
  return requests;
}

InProcessSetting Setting(int32_t num_groups) {
  InProcessSetting setting;
  setting.model = ModelFolder("tools/demo_model/model");
  setting.num_groups = num_groups;
  setting.num_blocks = 512;
  setting.max_num_seqs = 8;
  return setting;
}

const std::vector<std::vector<HeardSequence>>& OfOneGroup() {
  static auto* run = new InProcessRun(RunInProcess(Setting(1), Requests()));
  return run->sequences;
}

void ExpectAsOfOneGroup(const InProcessRun& run) {
  ASSERT_EQ(run.sequences.size(), OfOneGroup().size());
  for (size_t i = 0; i < run.sequences.size(); ++i) {
    ASSERT_EQ(run.sequences[i].size(), OfOneGroup()[i].size());
    for (size_t n = 0; n < run.sequences[i].size(); ++n) {
      EXPECT_EQ(run.sequences[i][n].tokens, OfOneGroup()[i][n].tokens)
          << "request " << i << ", sequence " << n;
    }
  }
}

TEST(ReplicaGroupsTest, TwoGroupsSayWhatOneSays) {
  const InProcessRun run = RunInProcess(Setting(2), Requests());
  ExpectAsOfOneGroup(run);
  for (const int64_t num_finished : run.num_finished) {
    EXPECT_GE(num_finished, kNumRequests / 4);
  }
}

TEST(ReplicaGroupsTest, FourGroupsOfTwoRanksSayWhatOneGroupOfTwoSays) {
  InProcessSetting setting = Setting(1);
  setting.tensor_parallel_size = 2;
  const InProcessRun one = RunInProcess(setting, Requests());
  setting.num_groups = 4;
  const InProcessRun four = RunInProcess(setting, Requests());
  EXPECT_EQ(four.streams, one.streams);
  for (const int64_t num_finished : four.num_finished) {
    EXPECT_GE(num_finished, 1);
  }
}

TEST(ReplicaGroupsTest, StreamsOfALostGroupGoOnTokenExactly) {
  InProcessSetting setting = Setting(4);
  setting.lost_group = 1;
  setting.lost_at_token = 30;  // of about 100
  const InProcessRun run = RunInProcess(setting, Requests());
  ExpectAsOfOneGroup(run);
  EXPECT_GT(run.num_adopted, 0);
}

TEST(ReplicaGroupsTest, TheLastOfTwoGroupsServesAll) {
  InProcessSetting setting = Setting(2);
  setting.lost_group = 0;
  setting.lost_at_token = 60;
  const InProcessRun run = RunInProcess(setting, Requests());
  ExpectAsOfOneGroup(run);
  EXPECT_GT(run.num_adopted, 0);
  EXPECT_GT(run.num_finished[1], kNumRequests / 2);
}

// Three families of prompts, asked in turns that four groups do not divide.
std::vector<EngineRequest> Families() {
  std::vector<EngineRequest> requests;
  for (int round = 0; round < 6; ++round) {
    for (int family = 0; family < 3; ++family) {
      EngineRequest& request = requests.emplace_back();
      request.request_id = absl::StrCat("f", family, "r", round);
      request.prompt = RandomTokens(96, 10 + family);
      request.prompt.push_back(round);
      request.sampling.max_tokens = 4;
      request.sampling.slot.temperature = 0;
    }
  }
  return requests;
}

TEST(ReplicaGroupsTest, SharedPrefixesGoWhereTheyAreCached) {
  InProcessSetting setting = Setting(4);
  setting.requests_at_once = 3;
  const InProcessRun near = RunInProcess(setting, Families());
  // The first of a family computes its six blocks, the five others find them.
  EXPECT_EQ(near.num_cache_hit_tokens, 3 * 5 * 96);
  setting.routing = RoutingPolicy::kRoundRobin;
  const InProcessRun turns = RunInProcess(setting, Families());
  EXPECT_EQ(turns.streams, near.streams);
  // Every family goes round all groups: four times it is computed.
  EXPECT_EQ(turns.num_cache_hit_tokens, 3 * 2 * 96);
}

// All prompts at once, one in four of them ten times as long.
TEST(ReplicaGroupsTest, ASkewedLoadIsBalancedByWorkAndNotByNumber) {
  std::vector<EngineRequest> requests;
  for (int i = 0; i < 16; ++i) {
    EngineRequest& request = requests.emplace_back();
    request.request_id = absl::StrCat("s", i);
    request.prompt = RandomTokens(i % 4 == 0 ? 200 : 20, 50 + i);
    // They all live while the last of them comes.
    request.sampling.max_tokens = 48;
  }
  InProcessSetting setting = Setting(4);
  setting.max_num_batched_tokens = 64;
  setting.max_num_seqs = 16;
  const InProcessRun run = RunInProcess(setting, requests);
  EXPECT_EQ(std::accumulate(run.num_finished.begin(), run.num_finished.end(),
                            int64_t{0}),
            16);
  // By turns one group would get all four long ones.
  for (const int64_t num_finished : run.num_finished) {
    EXPECT_GE(num_finished, 1);
    EXPECT_LE(num_finished, 10);
  }
}

}  // namespace
}  // namespace quire
