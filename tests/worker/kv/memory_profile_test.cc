// SPDX-License-Identifier: Apache-2.0
#include "worker/kv/memory_profile.h"

#include <set>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/fakes/fake_model.h"
#include "worker/collective/solo.h"

namespace quire {
namespace {

TEST(MemoryProfileTest, TheLargestStepFillsBothBudgets) {
  StepLimits limits;
  limits.max_num_batched_tokens = 100;
  limits.max_num_seqs = 7;
  limits.max_model_len = 50;
  const StepPlan plan = LargestStep(limits, /*block_size=*/16);
  int32_t num_tokens = 0;
  std::set<int32_t> blocks;
  size_t num_blocks = 0;
  for (const AdmittedSlot& admitted : plan.admitted) {
    num_tokens += static_cast<int32_t>(admitted.tokens.size());
    for (BlockId block : std::get<std::vector<BlockId>>(admitted.cache)) {
      blocks.insert(block.value());
      ++num_blocks;
    }
  }
  EXPECT_EQ(plan.chunks.size(), 7);
  EXPECT_EQ(num_tokens, 100);
  EXPECT_EQ(blocks.size(), num_blocks);  // none is shared
}

TEST(MemoryProfileTest, SequencesAreNoLongerThanTheWindow) {
  StepLimits limits;
  limits.max_num_batched_tokens = 100;
  limits.max_num_seqs = 2;
  limits.max_model_len = 30;
  for (const Slice& slice : LargestStep(limits, 16).chunks) {
    EXPECT_EQ(slice.num_tokens, 30);
  }
}

TEST(MemoryProfileTest, RunsTheModelAtItsLimits) {
  FakeBackend backend;
  SoloCollective solo;
  StepLimits limits;
  limits.max_num_batched_tokens = 100;
  limits.max_num_seqs = 7;
  limits.max_model_len = 50;
  FakeModel model(&solo, /*vocab_size=*/10, limits);
  const SimulatedClock clock;
  const auto took = RunLargestStep(&backend, &model, limits, 16, 10, clock);
  ASSERT_TRUE(took.ok()) << took.status();
  EXPECT_EQ(*took, absl::ZeroDuration());  // this clock stands still
  EXPECT_EQ(model.max_tokens_seen(), 100);
  EXPECT_EQ(model.max_seqs_seen(), 7);
}

TEST(MemoryProfileTest, TheCacheGetsWhatIsAllowedAndNotInUse) {
  EXPECT_EQ(*KvBytesFor({/*total_bytes=*/1000, /*free_bytes=*/700}, 0.9, 1),
            600);
  EXPECT_EQ(*KvBytesFor({1000, 700}, 0.9, 3), 200);
  const absl::Status none = KvBytesFor({1000, 100}, 0.9, 1).status();
  EXPECT_TRUE(absl::IsResourceExhausted(none));
  EXPECT_NE(none.message().find("--memory_utilization"), std::string::npos);
}

}  // namespace
}  // namespace quire
