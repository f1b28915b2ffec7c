// SPDX-License-Identifier: Apache-2.0
//
// A recording of real workers is decided again, step by step, without them.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/integration/in_process.h"
#include "tests/integration/process.h"
#include "tests/integration/process_cluster.h"
#include "tests/integration/runfiles.h"
#include "tools/replay/replayer.h"

namespace quire {
namespace {

void ExpectReplays(const std::string& path, int64_t num_requests) {
  const auto report = Replay(path);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->difference, "");
  EXPECT_FALSE(report->cut_off);
  EXPECT_EQ(report->num_requests, num_requests);
  EXPECT_GT(report->num_plans, num_requests / 8);
}

TEST(ReplayTest, AClusterUnderMixedLoadDecidesTheSameAgain) {
  const std::string recording = TempPath("cluster.quire");
  ProcessClusterOptions options;
  options.model = ModelFolder("tools/demo_model/model");
  // Few blocks, so that there are preemptions, swaps and evictions.
  options.coordinator_flags = {"--num_gpu_blocks_override=60",
                               "--max_num_seqs=32",
                               "--max_num_batched_tokens=128",
                               "--max_model_len=128",
                               "--swap_space=0.05",
                               "--demote_prefixes=always",
                               absl::StrCat("--record=", recording)};
  auto cluster = ProcessCluster::Start(options);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  auto loadgen = Process::Start(
      {Runfile("tools/loadgen/loadgen"),
       absl::StrCat("--target=", (*cluster)->public_address()),
       "--dataset_name=prefix_repetition", "--num_prompts=150",
       "--prefix_repetition_num_prefixes=6",
       "--prefix_repetition_prefix_len=40", "--prefix_repetition_suffix_len=12",
       "--prefix_repetition_output_len=16", "--max_concurrency=24",
       "--temperature=0.8", "--n=1,1,3", "--beam_width=0,0,0,2",
       "--priority=-1,0,2", "--cancel_fraction=0.1", "--seed=11",
       "--disable_progress"},
      TempPath("loadgen.log"));
  ASSERT_TRUE(loadgen.ok()) << loadgen.status();
  const auto code = (*loadgen)->Wait(absl::Minutes(12));
  ASSERT_TRUE(code.ok()) << code.status();
  EXPECT_EQ(*code, 0) << (*loadgen)->Stderr();
  EXPECT_TRUE((*cluster)->CheckNoLeakedBlock().ok());
  const absl::Status stopped = (*cluster)->Stop();  // the recording is whole
  EXPECT_TRUE(stopped.ok()) << stopped;
  const auto report = Replay(recording);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->difference, "");
  EXPECT_FALSE(report->cut_off);
  // Some were cancelled before they reached the engine.
  EXPECT_GE(report->num_requests, 130);
  EXPECT_LE(report->num_requests, 150);
  EXPECT_GT(report->num_plans, 100);
}

TEST(ReplayTest, RealRanksWithoutSocketsToo) {
  InProcessSetting setting;
  setting.model = ModelFolder("tools/demo_model/model");
  setting.tensor_parallel_size = 2;
  setting.num_blocks = 30;
  setting.max_num_seqs = 32;
  setting.preemption_mode = PreemptionMode::kAuto;
  setting.num_host_blocks = 40;
  setting.swap_blocks_per_second = 1000;
  setting.prefill_tokens_per_second = 5000;
  setting.record = TempPath("in_process.quire");
  std::vector<EngineRequest> requests(40);
  for (int i = 0; i < 40; ++i) {
    requests[i].request_id = absl::StrCat("r", i);
    for (int t = 0; t < 20 + i; ++t) {
      requests[i].prompt.push_back(100 + (i % 4) * 50 + t);
    }
    requests[i].priority = i % 3;
    SamplingParams& sampling = requests[i].sampling;
    sampling.max_tokens = 6 + i % 20;
    sampling.slot.seed = i;
    sampling.n = sampling.best_of = 1 + i % 2;
    if (i % 10 == 3) {
      sampling.slot.temperature = 0;
      sampling.beam_width = 3;
    }
    if (i % 5 == 1) sampling.stop = {"never"};  // the gateway's, if it were one
    if (i % 10 == 5) sampling.slot.num_prompt_logprobs = 3;
    if (i % 10 == 6) {
      sampling.slot.needs_mask = true;
      requests[i].first_mask = {0xffff0000u, 0x0000ffffu};
    }
    if (i % 10 == 7) {
      sampling.slot.logit_bias = {{5, 2.5f}};
      sampling.slot.bad_words = {{100, 101}, {7}};
      sampling.slot.allowed_token_ids = {5, 6, 100, 101};
    }
  }
  const InProcessRun run =
      RunInProcess(setting, requests,
                   [](int32_t, int32_t, const std::vector<TokenId>& outputs) {
                     return TokenMask{0xffffffffu << (outputs.size() % 7)};
                   });
  EXPECT_GT(run.num_preemptions, 0);
  ExpectReplays(setting.record, 40);
}

}  // namespace
}  // namespace quire
