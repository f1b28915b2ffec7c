// SPDX-License-Identifier: Apache-2.0
#include "coordinator/lost_group.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

const absl::Status kGone = absl::UnavailableError("rank 1 is gone");
const absl::Status kTruncated = absl::DataLossError("a shard is truncated");

TEST(LostGroupTest, WithoutReformingOthersGoOnAfterOneThatHasRun) {
  LostGroup lost = {.cause = kGone, .was_ready = true, .num_left = 1};
  EXPECT_FALSE(EndsService(lost, /*reform=*/false));
  lost.num_left = 0;
  EXPECT_TRUE(EndsService(lost, /*reform=*/false));
}

TEST(LostGroupTest, WithoutReformingOneThatNeverRanEndsAll) {
  const LostGroup lost = {.cause = kGone, .num_left = 1, .num_hopeful = 2};
  EXPECT_TRUE(EndsService(lost, /*reform=*/false));
}

TEST(LostGroupTest, WhatHasRunAndWhatLostAWorkerMayBeginAgain) {
  EXPECT_TRUE(MayBegin(kTruncated, /*was_ready=*/true));
  EXPECT_TRUE(MayBegin(kGone, /*was_ready=*/false));
  EXPECT_FALSE(MayBegin(kTruncated, /*was_ready=*/false));
}

TEST(LostGroupTest, ReformingGoesOnWhileAnyGroupMayBegin) {
  LostGroup lost = {.cause = kTruncated, .num_hopeful = 1};
  EXPECT_FALSE(EndsService(lost, /*reform=*/true));
  lost.num_hopeful = 0;
  EXPECT_TRUE(EndsService(lost, /*reform=*/true));
}

}  // namespace
}  // namespace quire
