// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/engine_flags.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(EngineFlagsTest, SetWhatTheySayAndNothingElse) {
  EngineFlags values;
  FlagSet flags("usage", "about");
  AddEngineFlags(&values, &flags);
  ASSERT_TRUE(flags.Parse({"--block_size=32", "--preemption_mode=swap"}).ok());
  EngineOptions options;
  options.max_queued_requests = 7;
  ASSERT_TRUE(ApplyEngineFlags(values, &options).ok());
  EXPECT_EQ(options.block_size, 32);
  EXPECT_EQ(options.preemption_mode, PreemptionMode::kSwap);
  EXPECT_EQ(options.max_queued_requests, 7);
}

TEST(EngineFlagsTest, AnUnknownPreemptionModeIsRefused) {
  EngineFlags values;
  values.preemption_mode = "never";
  EngineOptions options;
  EXPECT_EQ(ApplyEngineFlags(values, &options).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace quire
