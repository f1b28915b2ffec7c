// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/machine.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/collective/memory_board.h"

namespace quire {
namespace {

TEST(MachineTest, EveryRankSitsAmongThoseWhoNamedItsMachine) {
  MemoryBoard board;
  const std::vector<std::string> machines = {"a", "b", "a", "a"};
  std::vector<int32_t> counts(4), indices(4);
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < 4; ++rank) {
    threads.emplace_back([&, rank] {
      const auto seat =
          FindLocalSeat(&board, rank, 4, machines[rank], absl::Seconds(60));
      ASSERT_TRUE(seat.ok()) << seat.status();
      counts[rank] = seat->num_ranks;
      indices[rank] = seat->index;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counts, (std::vector<int32_t>{3, 1, 3, 3}));
  EXPECT_EQ(indices, (std::vector<int32_t>{0, 0, 1, 2}));
}

TEST(MachineTest, ARankThatNeverCameIsDeadlineExceeded) {
  MemoryBoard board;
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      FindLocalSeat(&board, 0, 2, "a", absl::Milliseconds(1)).status()));
}

TEST(MachineTest, AGroupOfOneNeedsNoBoard) {
  const auto seat = FindLocalSeat(nullptr, 0, 1, "a", absl::ZeroDuration());
  ASSERT_TRUE(seat.ok());
  EXPECT_EQ(seat->index, 0);
  EXPECT_EQ(seat->num_ranks, 1);
}

TEST(MachineTest, ThisMachineHasOneName) {
  EXPECT_EQ(ThisMachine(), ThisMachine());
  EXPECT_GT(ThisMachine().size(), 1);
}

}  // namespace
}  // namespace quire
