// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/status_text.h"

#include <gtest/gtest.h>

#include "proto/cluster.pb.h"

namespace quire {
namespace {

TEST(StatusTextTest, ShowsGroupsBlocksAndRanks) {
  v1::StatusResponse status;
  status.set_version("0.1");
  status.set_model("demo");
  status.set_public_address("127.0.0.1:8001");
  status.set_coordinator_epoch(7);
  status.set_uptime_s(185);
  status.set_num_running_requests(3);
  status.set_num_finished_requests(40);
  v1::Group* group = status.add_groups();
  group->set_group_epoch(2);
  group->set_state(v1::GROUP_STATE_READY);
  group->set_num_blocks(100);
  group->set_num_free_blocks(70);
  group->set_num_cached_blocks(5);
  group->set_last_step_id(123);
  group->set_num_running_requests(3);
  group->set_num_waiting_requests(1);
  v1::Rank* rank = group->add_ranks();
  rank->set_address("127.0.0.1:40001");
  rank->set_device("cpu");
  rank->set_pid(4242);
  rank->set_heartbeat_age_s(0.25);
  rank->set_load_phase("weights");
  rank->set_load_bytes_done(25);
  rank->set_load_bytes_total(100);
  rank->set_last_step_id(123);
  EXPECT_EQ(
      StatusText(status),
      "Quire 0.1 serves demo at 127.0.0.1:8001, up 3m05s, coordinator epoch "
      "7\n"
      "requests: 3 running, 0 waiting, 40 finished; 0 preemptions\n"
      "\n"
      "GROUP  EPOCH  STATE  RUNNING  WAITING  BLOCKS  HELD  CACHED  FREE  "
      "USED%  STEP  DETAIL\n"
      "    0      2  ready        3        1     100    25       5    70   "
      "25.0   123\n"
      "\n"
      "GROUP  RANK  ADDRESS          DEVICE   PID  HEARTBEAT  LOAD         "
      "STEP\n"
      "    0     0  127.0.0.1:40001  cpu     4242  0.2s ago   weights 25%   "
      "123\n");
}

TEST(StatusTextTest, RanksOfAGroupSayHowTheyReachEachOther) {
  v1::StatusResponse status;
  v1::Rank* rank = status.add_groups()->add_ranks();
  rank->set_rank(1);
  EXPECT_EQ(StatusText(status).find("COLLECTIVE"), std::string::npos);
  rank->set_collective("peer");
  rank->add_links("NVLink");
  rank->add_links("");
  rank->add_all_reduce_bytes(8 << 10);
  rank->add_all_reduce_us(2.26);
  rank->add_all_reduce_bytes(4 << 20);
  rank->add_all_reduce_us(14.2);
  const std::string text = StatusText(status);
  EXPECT_NE(text.find("peer        0: NVLink  8 KB 2.3, 4 MB 14.2"),
            std::string::npos)
      << text;
}

TEST(StatusTextTest, AnEmptyClusterHasEmptyTables) {
  v1::StatusResponse status;
  status.set_draining(true);
  const std::string text = StatusText(status);
  EXPECT_NE(text.find("(draining)"), std::string::npos);
  EXPECT_NE(text.find("GROUP  RANK"), std::string::npos);
}

}  // namespace
}  // namespace quire
