// SPDX-License-Identifier: Apache-2.0
//
// Groups of ranks on the CPU say what one rank says.
#include "tests/worker/executor/group_run.h"

namespace quire {
namespace {

// Logits are sums of 64 products of numbers near 1, split in up to eight parts
// that are rounded once each: some 1e-6 of their size, which is below 10.
constexpr float kTolerance = 1e-4f;

TEST(GroupExecutorTest, RanksOfAnyNumberSayWhatOneSays) {
  GroupRunOptions options;
  options.device.num_threads = 1;
  options.wants_gaps = true;
  const GroupRun reference = RunGroup(options);
  options.wants_gaps = false;
  for (const int32_t world_size : {1, 2, 4, 8}) {
    options.world_size = world_size;
    const GroupRun run = RunGroup(options);
    const int num_compared = ExpectSameTokens(reference, run, kTolerance);
    EXPECT_GT(num_compared, options.num_prompts * options.num_steps / 2)
        << world_size << " ranks";
  }
}

// Heads as Llama 3.3 70B has them, eight KV heads: four ranks have two of them
// each, eight have one, and nobody shares.
TEST(GroupExecutorTest, FourAndEightRanksSplitEightKvHeads) {
  GroupRunOptions options;
  options.device.num_threads = 1;
  options.head_dim = 4;
  options.num_q_heads = 16;
  options.num_kv_heads = 8;
  options.wants_gaps = true;
  const GroupRun reference = RunGroup(options);
  options.wants_gaps = false;
  for (const int32_t world_size : {4, 8}) {
    options.world_size = world_size;
    const GroupRun run = RunGroup(options);
    const int num_compared = ExpectSameTokens(reference, run, kTolerance);
    EXPECT_GT(num_compared, options.num_prompts * options.num_steps / 2)
        << world_size << " ranks";
  }
}

TEST(GroupExecutorTest, ATokenDoesNotDependOnItsBatchInAGroup) {
  GroupRunOptions options;
  options.device.num_threads = 1;
  options.dtype = "bfloat16";
  options.world_size = 4;
  const GroupRun together = RunGroup(options);
  options.is_alone = true;
  EXPECT_EQ(RunGroup(options).tokens, together.tokens);
}

}  // namespace
}  // namespace quire
