// SPDX-License-Identifier: Apache-2.0
//
// Page-sparse decode keeps the promise: what a client hears, log probabilities
// included, is a function of the request, bitwise, whoever else is in the
// batch, however prompts are cut, whoever is preempted and computed again,
// whom it forks from or shares a prefix with.
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/integration/in_process.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

constexpr int kNumPrompts = 15;
constexpr int kVocabSize = 4096;
constexpr int32_t kPages = 5;

// What every sequence hears.
using Heard = std::vector<HeardSequence>;

std::vector<TokenId> RandomTokens(int num_tokens, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(num_tokens);
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(10 + random() % (kVocabSize - 10));
  }
  return tokens;
}

EngineRequest Request(int idx, std::vector<TokenId> prompt, int max_tokens) {
  EngineRequest request;
  request.request_id = absl::StrCat("r", idx);
  request.prompt = std::move(prompt);
  SamplingParams& sampling = request.sampling;
  sampling.max_tokens = max_tokens;
  sampling.slot.seed = 1000 + idx;
  sampling.slot.temperature = idx % 2 == 0 ? 0.0f : 0.9f;
  sampling.slot.num_logprobs = 0;
  return request;
}

// Prompts that end before and after the first sparse position, a third of them
// beginning alike; most outputs cross several blocks.
std::vector<EngineRequest> Requests() {
  std::mt19937 random(20240616);
  std::vector<EngineRequest> requests;
  for (int i = 0; i < kNumPrompts; ++i) {
    std::vector<TokenId> prompt;
    if (i % 3 == 0) prompt = RandomTokens(100, /*seed=*/1);
    const std::vector<TokenId> rest =
        RandomTokens(1 + static_cast<int>(random() % 150), random());
    prompt.insert(prompt.end(), rest.begin(), rest.end());
    requests.push_back(Request(i, std::move(prompt), 20 + i % 5 * 8));
    if (i % 5 == 2) {
      requests.back().sampling.n = requests.back().sampling.best_of = 3;
    }
  }
  return requests;
}

InProcessSetting Sparse() {
  InProcessSetting setting;
  setting.model = ModelFolder("tools/demo_model/model");
  setting.max_model_len = 512;
  setting.sparse_pages = kPages;
  return setting;
}

// A request of its own for each sequence.
std::vector<EngineRequest> Singles() {
  std::vector<EngineRequest> singles;
  for (const EngineRequest& request : Requests()) {
    for (int32_t index = 0; index < request.sampling.n; ++index) {
      EngineRequest& single = singles.emplace_back(request);
      single.request_id = absl::StrCat(request.request_id, "-", index);
      single.sampling.n = single.sampling.best_of = 1;
      single.sampling.slot.seed =
          SequenceSeed(request.sampling.slot.seed, index);
    }
  }
  return singles;
}

// One sequence at a time, computed in whole prompts and single tokens.
InProcessSetting Alone(const InProcessSetting& setting) {
  InProcessSetting alone = Sparse();
  alone.tensor_parallel_size = setting.tensor_parallel_size;
  alone.dtype = setting.dtype;
  alone.block_size = setting.block_size;
  alone.sparse_pages = setting.sparse_pages;
  alone.max_num_seqs = 1;
  alone.run_ahead_depth = 1;
  alone.enable_prefix_caching = false;
  return alone;
}

// Those of all requests, one after the other.
Heard Flatten(const std::vector<std::vector<HeardSequence>>& requests) {
  Heard heard;
  for (const std::vector<HeardSequence>& sequences : requests) {
    heard.insert(heard.end(), sequences.begin(), sequences.end());
  }
  return heard;
}

const Heard& ExpectedOf(const InProcessSetting& setting) {
  static auto* cache =
      new std::map<std::tuple<int32_t, DType, int32_t, int32_t>, Heard>;
  Heard& heard = (*cache)[{setting.tensor_parallel_size, setting.dtype,
                           setting.block_size, setting.sparse_pages}];
  if (heard.empty()) {
    heard = Flatten(RunInProcess(Alone(setting), Singles()).sequences);
  }
  return heard;
}

void ExpectSame(const InProcessRun& run, const Heard& want) {
  const Heard got = Flatten(run.sequences);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_FALSE(got[i].tokens.empty());
    EXPECT_EQ(got[i].tokens, want[i].tokens) << "sequence " << i << " of all";
    EXPECT_EQ(got[i].logprobs, want[i].logprobs) << "sequence " << i;
  }
}

class SparseAttentionTest : public testing::TestWithParam<InProcessSetting> {};

TEST_P(SparseAttentionTest, EverySequenceHearsWhatItHearsAlone) {
  const InProcessSetting& setting = GetParam();
  const InProcessRun run = RunInProcess(setting, Requests());
  ExpectSame(run, ExpectedOf(setting));
  const bool must_preempt =
      setting.forced_preemption_period > 0 || setting.num_blocks < 4096;
  EXPECT_EQ(run.num_preemptions > 0, must_preempt);
  EXPECT_EQ(run.num_swapped_blocks > 0, setting.num_host_blocks > 0);
  EXPECT_EQ(run.num_cache_hit_tokens > 0, setting.enable_prefix_caching);
}

std::vector<InProcessSetting> Settings() {
  std::vector<InProcessSetting> settings;
  const auto add = [&](auto change) {
    settings.push_back(Sparse());
    change(settings.back());
  };
  add([](InProcessSetting&) {});
  add([](InProcessSetting& s) {
    s.tensor_parallel_size = 2;
    s.forced_preemption_period = 5;
  });
  add([](InProcessSetting& s) { s.max_num_batched_tokens = 16; });
  add([](InProcessSetting& s) {
    s.block_size = 8;
    s.max_num_batched_tokens = 64;
    s.forced_preemption_period = 3;
  });
  // Nothing is kept of who is preempted, so that decoded tokens are computed
  // again, in chunks of many sizes.
  add([](InProcessSetting& s) {
    s.forced_preemption_period = 7;
    s.enable_prefix_caching = false;
    s.max_num_batched_tokens = 48;
  });
  add([](InProcessSetting& s) {
    s.dtype = DType::kF32;
    s.num_blocks = 64;
    s.enable_prefix_caching = false;
  });
  add([](InProcessSetting& s) {
    s.num_blocks = 64;
    s.preemption_mode = PreemptionMode::kSwap;
    s.num_host_blocks = 80;
  });
  return settings;
}

std::string Name(const testing::TestParamInfo<InProcessSetting>& info) {
  const InProcessSetting& s = info.param;
  return absl::StrCat("tp", s.tensor_parallel_size, Name(s.dtype), "tokens",
                      s.max_num_batched_tokens, "block", s.block_size, "of",
                      s.num_blocks, "force", s.forced_preemption_period, "host",
                      s.num_host_blocks,
                      s.enable_prefix_caching ? "" : "uncached");
}

INSTANTIATE_TEST_SUITE_P(Schedules, SparseAttentionTest,
                         testing::ValuesIn(Settings()), Name);

TEST(SparseAttentionTest, ItChangesWhatLongSequencesHear) {
  InProcessSetting dense = Sparse();
  dense.sparse_pages = 0;
  const Heard& few = ExpectedOf(Sparse());
  const Heard& all = ExpectedOf(dense);
  int num_changed = 0;
  for (size_t i = 0; i < few.size(); ++i) {
    num_changed += few[i].logprobs != all[i].logprobs;
  }
  EXPECT_GT(num_changed, kNumPrompts / 2);
}

TEST(SparseAttentionTest, AsManyPagesAsThereAreChangeNothing) {
  InProcessSetting dense = Sparse();
  dense.sparse_pages = 0;
  InProcessSetting enough = Sparse();
  enough.sparse_pages = 512 / enough.block_size;
  ExpectSame(RunInProcess(enough, Requests()), ExpectedOf(dense));
}

TEST(SparseAttentionTest, ALaterTurnFindsThePromptButNotSparseAnswers) {
  constexpr int kPromptTokens = 150;  // 9 blocks of 16, and 6 tokens
  EngineRequest first = Request(0, RandomTokens(kPromptTokens, 5), 70);
  first.sampling.stop_token_ids.clear();
  const InProcessSetting alone = Alone(Sparse());
  const std::vector<TokenId> answer = RunInProcess(alone, {first}).streams[0];
  ASSERT_GT(answer.size(), 30u);
  std::vector<TokenId> prompt = first.prompt;
  prompt.insert(prompt.end(), answer.begin(), answer.end());
  const std::vector<TokenId> question = RandomTokens(20, 6);
  prompt.insert(prompt.end(), question.begin(), question.end());
  const EngineRequest second = Request(1, prompt, 30);

  InProcessSetting in_turn = Sparse();
  in_turn.max_num_seqs = 1;
  InProcessRun run = RunInProcess(in_turn, {first, second});
  EXPECT_EQ(run.num_cache_hit_tokens, 9 * 16);
  run.sequences.erase(run.sequences.begin());
  ExpectSame(run, Flatten(RunInProcess(alone, {second}).sequences));
}

TEST(SparseAttentionTest, BeamsAreThoseOfAnUndisturbedSearch) {
  std::vector<EngineRequest> requests = Requests();
  requests.resize(4);
  for (EngineRequest& request : requests) {
    SamplingParams& sampling = request.sampling;
    sampling.beam_width = sampling.best_of = sampling.n = 3;
    sampling.slot.temperature = 0;
    sampling.slot.num_logprobs = -1;
  }
  InProcessSetting alone = Alone(Sparse());
  alone.max_num_seqs = 3;
  InProcessSetting disturbed = Sparse();
  disturbed.forced_preemption_period = 5;
  disturbed.enable_prefix_caching = false;
  disturbed.max_num_batched_tokens = 48;
  const InProcessRun run = RunInProcess(disturbed, requests);
  EXPECT_GT(run.num_preemptions, 0);
  ExpectSame(run, Flatten(RunInProcess(alone, requests).sequences));
}

}  // namespace
}  // namespace quire
