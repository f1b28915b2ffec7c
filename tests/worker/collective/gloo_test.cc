// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/gloo.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/collective/memory_board.h"
#include "tests/worker/collective/rank_threads.h"

namespace quire {
namespace {

TEST(GlooTest, AllReduceAddsInRankOrderWhateverTheSize) {
  for (int32_t world : {1, 2, 3, 4}) {
    OnEveryRank(ConnectGloo, world, [&](std::unique_ptr<Collective> ranks) {
      // Both sides of the switch from one round to two (16384 floats).
      for (int64_t n : {0, 1, 5, 1000, 16384, 16385, 100003}) {
        ExpectSumInRankOrder(*ranks, world, n);
      }
    });
  }
}

TEST(GlooTest, AllGatherOrdersByRankAlsoInPlace) {
  OnEveryRank(ConnectGloo, 3, [](std::unique_ptr<Collective> ranks) {
    for (int32_t round = 0; round < 20; ++round) {
      std::vector<int32_t> out(6, -1);
      int32_t* mine = &out[2 * ranks->rank()];
      mine[0] = ranks->rank() * 100 + round;
      mine[1] = -mine[0];
      ASSERT_TRUE(ranks->AllGather(mine, out.data(), 8).ok());
      for (int32_t peer = 0; peer < 3; ++peer) {
        ASSERT_EQ(out[2 * peer], peer * 100 + round);
        ASSERT_EQ(out[2 * peer + 1], -(peer * 100 + round));
      }
      ASSERT_TRUE(ranks->Barrier().ok());
    }
  });
}

TEST(GlooTest, AGonePeerIsUnavailableAndStaysSo) {
  OnEveryRank(ConnectGloo, 2, [](std::unique_ptr<Collective> ranks) {
    ASSERT_TRUE(ranks->Barrier().ok());
    if (ranks->rank() == 1) return;  // closes its connections
    float value = 1;
    absl::Status status;
    // The first message may still fit the socket's buffer.
    for (int i = 0; i < 3 && status.ok(); ++i) {
      status = ranks->AllReduceSum(&value, 1, DType::kF32);
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_EQ(ranks->Barrier(), status);
  });
}

TEST(GlooTest, APeerThatNeverJoinsIsUnavailable) {
  MemoryBoard board;
  GlooOptions options;
  options.world_size = 2;
  options.connect_timeout = absl::Milliseconds(10);
  const auto collective = ConnectGloo(options, &board);
  EXPECT_EQ(collective.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace quire
