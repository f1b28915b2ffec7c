// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/engine_options.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

absl::Status With(void (*change)(EngineOptions*)) {
  EngineOptions options;
  change(&options);
  return ValidateEngineOptions(options);
}

TEST(EngineOptionsTest, DefaultsAreValid) {
  EXPECT_TRUE(ValidateEngineOptions(EngineOptions()).ok());
}

TEST(EngineOptionsTest, AValueOutOfRangeNamesItsFlag) {
  EXPECT_EQ(With([](EngineOptions* o) { o->max_num_seqs = 0; }).message(),
            "--max_num_seqs=0: want 1 to 1048576");
  EXPECT_EQ(With([](EngineOptions* o) { o->max_num_seqs = 1 << 30; }).message(),
            "--max_num_seqs=1073741824: want 1 to 1048576");
  EXPECT_EQ(With([](EngineOptions* o) { o->max_model_len = 1; }).message(),
            "--max_model_len=1: want 2 to 1073741823");
  EXPECT_EQ(With([](EngineOptions* o) { o->max_queued_tokens = -5; }).message(),
            "--max_queued_tokens=-5: want 1 to 1125899906842624");
  EXPECT_EQ(With([](EngineOptions* o) { o->run_ahead_depth = 17; }).message(),
            "--run_ahead_depth=17: want 1 to 16");
  EXPECT_EQ(With([](EngineOptions* o) { o->watermark = 0.9; }).message(),
            "--watermark=0.9: want 0 to 0.5");
}

TEST(EngineOptionsTest, APreemptionInEveryStepWouldLeaveNoneToRun) {
  EXPECT_FALSE(
      With([](EngineOptions* o) { o->forced_preemption_period = 1; }).ok());
  EXPECT_FALSE(
      With([](EngineOptions* o) { o->forced_preemption_period = -1; }).ok());
  EXPECT_TRUE(
      With([](EngineOptions* o) { o->forced_preemption_period = 2; }).ok());
}

TEST(EngineOptionsTest, SparseAttentionWantsBlocksToChooseFrom) {
  EXPECT_EQ(With([](EngineOptions* o) { o->sparse_pages = 3; }).message(),
            "--sparse_attention=top_pages:3: want at least 4 pages");
  EXPECT_TRUE(With([](EngineOptions* o) { o->sparse_pages = 4; }).ok());
  EXPECT_TRUE(With([](EngineOptions* o) {
                o->sparse_pages = 4;
                o->kv_manager = "orca_max";
              }).ok());
  EXPECT_EQ(With([](EngineOptions* o) {
              o->sparse_pages = 4;
              o->kv_manager = "virtual";
            }).message(),
            "--sparse_attention=top_pages:4 chooses among KV blocks, and "
            "--kv_manager=virtual has none: want --kv_manager=paged");
  EXPECT_TRUE(absl::IsUnimplemented(With([](EngineOptions* o) {
    o->sparse_pages = 4;
    o->sliding_window = 64;
  })));
}

TEST(EngineOptionsTest, TheLastTokenNeedsNoRoom) {
  EngineOptions options;
  options.block_size = 16;
  options.max_model_len = 100;
  EXPECT_TRUE(CheckFitsAlone(options, /*num_blocks=*/2, 16, 17).ok());
  EXPECT_FALSE(CheckFitsAlone(options, /*num_blocks=*/2, 16, 18).ok());
  EXPECT_TRUE(CheckFitsAlone(options, /*num_blocks=*/99, 50, 50).ok());
  EXPECT_FALSE(CheckFitsAlone(options, /*num_blocks=*/99, 50, 51).ok());
  // Sizes a client may claim do not overflow.
  EXPECT_FALSE(CheckFitsAlone(options, 99, 50, 2147483647).ok());
}

TEST(EngineOptionsTest, BehindAWindowNothingNeedsRoom) {
  EngineOptions options;
  options.block_size = 16;
  options.max_model_len = 4096;
  options.sliding_window = 64;
  EXPECT_TRUE(CheckFitsAlone(options, /*num_blocks=*/5, 4000, 96).ok());
  EXPECT_EQ(CheckFitsAlone(options, /*num_blocks=*/4, 4000, 96).message(),
            "prompt and max_tokens, 4096 tokens behind a window of 64, need 5 "
            "KV blocks; the pool has 4");
  EXPECT_TRUE(CheckFitsAlone(options, /*num_blocks=*/4, 60, 5).ok());
  EXPECT_TRUE(CheckFitsAlone(options, /*num_blocks=*/10, 4000, 96, 0, 2).ok());
  EXPECT_FALSE(CheckFitsAlone(options, /*num_blocks=*/9, 4000, 96, 0, 2).ok());
}

TEST(EngineOptionsTest, AReservationMustFitAnEmptyPool) {
  EngineOptions options;
  options.block_size = 16;
  options.max_model_len = 2048;
  options.kv_manager = "orca_max";
  EXPECT_TRUE(CheckFitsAlone(options, /*num_blocks=*/128, 1, 1).ok());
  EXPECT_EQ(CheckFitsAlone(options, /*num_blocks=*/127, 1, 1).message(),
            "prompt and max_tokens, 2 tokens, need 128 KV blocks; the pool has "
            "127");
  // 9 blocks are a range of 16, and 13 blocks have none.
  options.kv_manager = "orca_oracle";
  EXPECT_TRUE(CheckFitsAlone(options, /*num_blocks=*/13, 100, 28).ok());
  EXPECT_FALSE(CheckFitsAlone(options, /*num_blocks=*/13, 100, 29).ok());
  EXPECT_TRUE(CheckFitsAlone(options, /*num_blocks=*/16, 100, 29).ok());
}

}  // namespace
}  // namespace quire
