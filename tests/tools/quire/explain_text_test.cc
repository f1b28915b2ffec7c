// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/explain_text.h"

#include <gtest/gtest.h>

#include "proto/inference.pb.h"

namespace quire {
namespace {

void AddInterval(int64_t from_ms, int64_t to_ms, v1::WaitReason reason,
                 int32_t num_needed, int32_t num_available,
                 const std::string& other, v1::ExplainResponse* explained) {
  v1::WaitInterval* interval = explained->add_intervals();
  interval->set_from_ns(from_ms * 1000000);
  interval->set_to_ns(to_ms * 1000000);
  interval->set_reason(reason);
  interval->set_num_needed(num_needed);
  interval->set_num_available(num_available);
  interval->set_other(other);
}

void AddTotal(v1::WaitReason reason, int64_t ms,
              v1::ExplainResponse* explained) {
  v1::WaitShare* share = explained->add_totals();
  share->set_reason(reason);
  share->set_ns(ms * 1000000);
}

TEST(ExplainTextTest, ShowsIntervalsAndShares) {
  v1::ExplainResponse explained;
  explained.set_request_id("a");
  explained.set_state(v1::ExplainResponse::STATE_WAITING);
  explained.set_elapsed_ns(50000000);
  explained.set_waited_ns(40000000);
  explained.set_num_preemptions(1);
  AddInterval(0, 10, v1::WAIT_REASON_NEEDS_BLOCKS, 12, 3, "", &explained);
  AddInterval(20, 50, v1::WAIT_REASON_PREEMPTED_BY, 1, 0, "b", &explained);
  AddTotal(v1::WAIT_REASON_NEEDS_BLOCKS, 10, &explained);
  AddTotal(v1::WAIT_REASON_PREEMPTED_BY, 30, &explained);
  EXPECT_EQ(ExplainText(explained),
            "request a waits: waited 40.000 of 50.000 ms, preempted 1 time\n"
            "\n"
            "FROM_MS   TO_MS      MS  REASON        DETAIL\n"
            "  0.000  10.000  10.000  needs blocks  needs 12 KV blocks, 3 "
            "free\n"
            " 20.000  50.000  30.000  preempted     by b\n"
            "\n"
            "SHARE%      MS  REASON\n"
            "  75.0  30.000  preempted\n"
            "  25.0  10.000  needs blocks\n");
}

TEST(ExplainTextTest, SaysWhatThoseBeforeItWaitedFor) {
  v1::ExplainResponse explained;
  explained.set_state(v1::ExplainResponse::STATE_ENDED);
  explained.set_waited_ns(4000000);
  explained.set_unlisted_ns(1000000);
  AddInterval(0, 3, v1::WAIT_REASON_BEHIND, 7, 0, "", &explained);
  AddTotal(v1::WAIT_REASON_BEHIND, 4, &explained);
  v1::WaitShare* cause = explained.add_behind_causes();
  cause->set_reason(v1::WAIT_REASON_NO_SLOT);
  cause->set_ns(4000000);
  const std::string text = ExplainText(explained);
  EXPECT_NE(text.find("7 before it"), std::string::npos) << text;
  EXPECT_NE(text.find("and 1.000 ms before these"), std::string::npos) << text;
  EXPECT_NE(text.find("what those before it waited for:"), std::string::npos);
  EXPECT_NE(text.find(" 100.0  4.000  no slot"), std::string::npos) << text;
}

TEST(ExplainTextTest, OneThatNeverWaitedHasNoTables) {
  v1::ExplainResponse explained;
  explained.set_request_id("a");
  explained.set_state(v1::ExplainResponse::STATE_RUNNING);
  explained.set_elapsed_ns(2000000);
  EXPECT_EQ(ExplainText(explained),
            "request a runs: waited 0.000 of 2.000 ms, preempted 0 times\n");
}

}  // namespace
}  // namespace quire
