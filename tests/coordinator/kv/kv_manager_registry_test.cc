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

TEST(KvManagerRegistryTest, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  const absl::Status status = MakeKvManager("pagd", Options(16)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "--kv_manager=pagd is unknown; known: paged");
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
