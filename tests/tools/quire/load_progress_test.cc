// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/load_progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "proto/cluster.pb.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

v1::StatusResponse Status(v1::GroupState state, uint64_t bytes_done) {
  v1::StatusResponse status;
  v1::Group* group = status.add_groups();
  group->set_state(state);
  for (int rank_idx = 0; rank_idx < 2; ++rank_idx) {
    v1::Rank* rank = group->add_ranks();
    rank->set_load_phase(bytes_done == 4 << 20 ? "done" : "weights");
    rank->set_load_bytes_done(bytes_done);
    rank->set_load_bytes_total(4 << 20);
  }
  return status;
}

TEST(LoadProgressTest, AddsUpTheRanksAndGoesOnToWarmUp) {
  SimulatedClock clock;
  std::ostringstream out;
  LoadProgress progress(ProgressStyle::kPlain, &out, &clock);
  progress.Update(v1::StatusResponse());  // nobody has joined
  EXPECT_EQ(out.str(), "");
  // A group may be called warming while its ranks still load.
  progress.Update(Status(v1::GROUP_STATE_WARMING, 1 << 20));
  EXPECT_THAT(out.str(), HasSubstr("weights   25% 2.0/8.0 MiB"));
  EXPECT_THAT(out.str(), HasSubstr("0/2 ranks done"));
  clock.Advance(absl::Seconds(1));
  progress.Update(Status(v1::GROUP_STATE_WARMING, 4 << 20));
  EXPECT_THAT(out.str(), HasSubstr("weights  100% 8.0/8.0 MiB"));
  EXPECT_THAT(out.str(), HasSubstr("warm-up    0%"));
  progress.Finish();
  EXPECT_THAT(out.str(), HasSubstr("warm-up  100%"));
}

TEST(LoadProgressTest, AGroupThatIsReadyGoesNotBackToItsWeights) {
  SimulatedClock clock;
  std::ostringstream out;
  LoadProgress progress(ProgressStyle::kPlain, &out, &clock);
  progress.Update(Status(v1::GROUP_STATE_WARMING, 4 << 20));
  progress.Update(Status(v1::GROUP_STATE_READY, 4 << 20));
  progress.Finish();
  EXPECT_EQ(out.str(),
            "warm-up    0%  profiling the largest step\n"
            "warm-up  100%  took 0.0s\n");
}

}  // namespace
}  // namespace quire
