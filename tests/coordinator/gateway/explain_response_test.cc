// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/explain_response.h"

#include "gtest/gtest.h"
#include "proto/inference.pb.h"

namespace quire {
namespace {

TEST(ExplainResponseTest, TimesCountFromTheArrivalAndReasonsKeepTheirNumbers) {
  Timeline timeline;
  timeline.request_id = "r";
  timeline.state = TimelineState::kRunning;
  timeline.arrival = absl::UnixEpoch() + absl::Seconds(100);
  timeline.end = timeline.arrival + absl::Nanoseconds(900);
  timeline.unlisted = absl::Nanoseconds(50);
  timeline.num_preemptions = 2;
  timeline.intervals.push_back(
      {.from = timeline.arrival + absl::Nanoseconds(50),
       .to = timeline.arrival + absl::Nanoseconds(350),
       .why = {.reason = WaitReason::kPreemptedBy,
               .num_needed = 7,
               .num_available = 3},
       .other = "taker"});
  timeline.totals[static_cast<int>(WaitReason::kPreemptedBy)] =
      absl::Nanoseconds(300);
  timeline.totals[static_cast<int>(WaitReason::kBehind)] =
      absl::Nanoseconds(50);
  timeline.behind_causes[static_cast<int>(WaitReason::kNoSlot)] =
      absl::Nanoseconds(50);
  v1::ExplainResponse response;
  FillExplainResponse(timeline, &response);
  EXPECT_EQ(response.request_id(), "r");
  EXPECT_EQ(response.state(), v1::ExplainResponse::STATE_RUNNING);
  EXPECT_EQ(response.arrival_unix_us(), 100'000'000);
  EXPECT_EQ(response.elapsed_ns(), 900);
  EXPECT_EQ(response.waited_ns(), 350);
  EXPECT_EQ(response.unlisted_ns(), 50);
  EXPECT_EQ(response.num_preemptions(), 2);
  ASSERT_EQ(response.intervals_size(), 1);
  EXPECT_EQ(response.intervals(0).from_ns(), 50);
  EXPECT_EQ(response.intervals(0).to_ns(), 350);
  EXPECT_EQ(response.intervals(0).reason(), v1::WAIT_REASON_PREEMPTED_BY);
  EXPECT_EQ(response.intervals(0).num_needed(), 7);
  EXPECT_EQ(response.intervals(0).num_available(), 3);
  EXPECT_EQ(response.intervals(0).other(), "taker");
  // Reasons that it never had are left out.
  ASSERT_EQ(response.totals_size(), 2);
  EXPECT_EQ(response.totals(0).reason(), v1::WAIT_REASON_BEHIND);
  EXPECT_EQ(response.totals(1).ns(), 300);
  ASSERT_EQ(response.behind_causes_size(), 1);
  EXPECT_EQ(response.behind_causes(0).reason(), v1::WAIT_REASON_NO_SLOT);
}

TEST(ExplainResponseTest, EveryReasonHasItsNameInTheProtocol) {
  for (int32_t reason = 0; reason < kNumWaitReasons; ++reason) {
    Timeline timeline;
    timeline.totals[reason] = absl::Nanoseconds(1);
    v1::ExplainResponse response;
    FillExplainResponse(timeline, &response);
    std::string name(WaitReasonName(static_cast<WaitReason>(reason)));
    for (char& c : name) c = static_cast<char>(std::toupper(c));
    EXPECT_EQ(v1::WaitReason_Name(response.totals(0).reason()),
              "WAIT_REASON_" + name);
  }
}

}  // namespace
}  // namespace quire
