// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/kv_manager_registry.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

KvOptions Options(int32_t block_size) {
  return {.num_blocks = 4,
          .block_size = block_size,
          .max_num_seqs = 2,
          .max_model_len = 64,
          .num_host_blocks = 0};
}

TEST(KvManagerRegistryTest, MakesThePagedManager) {
  const auto manager = MakeKvManager("paged", Options(16));
  ASSERT_TRUE(manager.ok()) << manager.status();
  EXPECT_EQ((*manager)->Usage().num_free, 4);
  EXPECT_EQ((*manager)->block_size(), 16);
}

TEST(KvManagerRegistryTest, MakesTheReservingManagers) {
  for (const char* name : {"orca_max", "orca_pow2", "orca_oracle"}) {
    const auto manager = MakeKvManager(name, Options(16));
    ASSERT_TRUE(manager.ok()) << manager.status();
    EXPECT_TRUE((*manager)->reserves());
    EXPECT_FALSE((*manager)->can_fork());
  }
  EXPECT_FALSE((*MakeKvManager("paged", Options(16)))->reserves());
}

TEST(KvManagerRegistryTest, APageGroupHasAnyNumberOfTokens) {
  const auto manager = MakeKvManager("virtual", Options(25));
  ASSERT_TRUE(manager.ok()) << manager.status();
  EXPECT_EQ((*manager)->block_size(), 25);
  EXPECT_TRUE((*manager)->maps_ahead());
  EXPECT_FALSE(MakeKvManager("virtual", Options(0)).ok());
}

TEST(KvManagerRegistryTest, KnowsWhoseMemoryIsShared) {
  for (const char* name :
       {"paged", "orca_max", "orca_pow2", "orca_oracle", "virtual"}) {
    EXPECT_EQ(*CanFork(name), (*MakeKvManager(name, Options(16)))->can_fork())
        << name;
  }
  EXPECT_FALSE(CanFork("pagd").ok());
  // Who gives back what a window leaves behind needs only the window alone.
  for (const char* name :
       {"paged", "orca_max", "orca_pow2", "orca_oracle", "virtual"}) {
    EXPECT_EQ(*NumBlocksAlone(name, Options(16), 1, 250, /*window=*/2) == 2,
              (*MakeKvManager(name, Options(16)))->can_drop())
        << name;
  }
}

TEST(KvManagerRegistryTest, KnowsWhatASequenceTakesAlone) {
  const KvOptions options = Options(4);
  // 5 known tokens and 12 to come; the last is never stored.
  EXPECT_EQ(*NumBlocksAlone("paged", options, 5, 17), 4);
  EXPECT_EQ(*NumBlocksAlone("orca_oracle", options, 5, 17), 8);
  EXPECT_EQ(*NumBlocksAlone("orca_oracle", options, 5, 16), 4);
  EXPECT_EQ(*NumBlocksAlone("orca_pow2", options, 5, 14), 8);
  EXPECT_EQ(*NumBlocksAlone("orca_max", options, 1, 2), 16);
  // 16 to come need 4 blocks; started anew with 7, 9 to come reserve 16.
  EXPECT_EQ(*NumBlocksAlone("orca_pow2", options, 0, 16), 8);
}

TEST(KvManagerRegistryTest, AWindowBoundsWhatPagedMemoryTakesAlone) {
  const KvOptions options = Options(4);
  // Eight tokens lie in three blocks, if the first is not the first of its own.
  EXPECT_EQ(*NumBlocksAlone("paged", options, 5, 100, /*window=*/8), 3);
  EXPECT_EQ(*NumBlocksAlone("paged", options, 5, 100, /*window=*/9), 3);
  EXPECT_EQ(*NumBlocksAlone("paged", options, 5, 100, /*window=*/10), 4);
  EXPECT_EQ(*NumBlocksAlone("paged", options, 5, 6, /*window=*/80), 2);
  EXPECT_EQ(*NumBlocksAlone("virtual", options, 5, 17, /*window=*/8), 4);
  EXPECT_EQ(*NumBlocksAlone("orca_oracle", options, 5, 17, /*window=*/8), 8);
}

TEST(KvManagerRegistryTest, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  const absl::Status status = MakeKvManager("pagd", Options(16)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "--kv_manager=pagd is unknown; known: paged, orca_max, orca_pow2, "
            "orca_oracle, virtual");
  EXPECT_EQ(NumBlocksAlone("pagd", Options(16), 1, 2).status(), status);
}

TEST(KvManagerRegistryTest, BlockSizesArePowersOfTwoUpTo256) {
  for (int32_t size : {1, 2, 64, 256}) {
    EXPECT_TRUE(MakeKvManager("paged", Options(size)).ok()) << size;
  }
  for (int32_t size : {-16, 0, 3, 24, 512}) {
    EXPECT_EQ(MakeKvManager("paged", Options(size)).status().code(),
              absl::StatusCode::kInvalidArgument)
        << size;
  }
}

}  // namespace
}  // namespace quire
