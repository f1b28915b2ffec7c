// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/registry.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/collective/memory_board.h"

namespace quire {
namespace {

TEST(CollectiveRegistryTest, EveryNameJoinsTwoRanks) {
  for (const char* name : {"auto", "gloo", "shm"}) {
    ASSERT_TRUE(CheckCollectiveName(name).ok());
    MemoryBoard board;
    std::vector<std::thread> threads;
    for (int32_t rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        CollectiveOptions options;
        options.rank = rank;
        options.world_size = 2;
        options.num_local_ranks = 2;
        const auto ranks = CreateCollective(name, options, &board);
        ASSERT_TRUE(ranks.ok()) << name << ": " << ranks.status();
        float value = rank + 1;
        EXPECT_TRUE((*ranks)->AllReduceSum(&value, 1, DType::kF32).ok());
        EXPECT_EQ(value, 3);
        EXPECT_TRUE((*ranks)->Barrier().ok());
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

TEST(CollectiveRegistryTest, AGroupOfOneNeedsNoBoard) {
  const auto solo = CreateCollective("gloo", CollectiveOptions(), nullptr);
  ASSERT_TRUE(solo.ok());
  EXPECT_EQ((*solo)->world_size(), 1);
}

TEST(CollectiveRegistryTest, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  EXPECT_EQ(CheckCollectiveName("mpi").message(),
            "no collective is called \"mpi\"; one of auto, gloo, nccl, peer, shm");
  EXPECT_TRUE(absl::IsInvalidArgument(
      CreateCollective("mpi", CollectiveOptions(), nullptr).status()));
}

TEST(CollectiveRegistryTest, MemoryOfTheOtherKindIsRefused) {
  MemoryBoard board;
  CollectiveOptions options;
  options.world_size = 2;
  options.num_local_ranks = 2;
  EXPECT_TRUE(absl::IsInvalidArgument(
      CreateCollective("nccl", options, &board).status()));
  options.gpu = 0;
  for (const char* name : {"gloo", "shm"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        CreateCollective(name, options, &board).status()))
        << name;
  }
}

TEST(CollectiveRegistryTest, SharedMemoryAcrossMachinesIsRefused) {
  CollectiveOptions options;
  options.world_size = 2;
  options.num_local_ranks = 1;
  MemoryBoard board;
  EXPECT_TRUE(absl::IsInvalidArgument(
      CreateCollective("shm", options, &board).status()));
}

}  // namespace
}  // namespace quire
