// SPDX-License-Identifier: Apache-2.0
#include "worker/model/rank_shape.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

ModelConfig Config() {
  ModelConfig config;
  config.num_q_heads = 8;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.intermediate_size = 24;
  config.vocab_size = 259;
  return config;
}

TEST(RankShapeTest, OneRankHoldsEverything) {
  const RankShape shape = MakeRankShape(Config(), 0, 1);
  EXPECT_EQ(shape.num_q_heads, 8);
  EXPECT_EQ(shape.num_kv_heads, 2);
  EXPECT_EQ(shape.q_size(), 128);
  EXPECT_EQ(shape.kv_size(), 32);
  EXPECT_EQ(shape.num_intermediate, 24);
  EXPECT_EQ(shape.vocab.first_id, 0);
  EXPECT_EQ(shape.vocab.num_ids, 259);
}

TEST(RankShapeTest, TheLastRankMayHoldFewerTokens) {
  const RankShape first = MakeRankShape(Config(), 0, 2);
  const RankShape second = MakeRankShape(Config(), 1, 2);
  EXPECT_EQ(first.vocab.num_ids, 130);
  EXPECT_EQ(second.vocab.first_id, 130);
  EXPECT_EQ(second.vocab.num_ids, 129);
  EXPECT_EQ(second.first_q_head, 4);
  EXPECT_EQ(second.first_kv_head, 1);
  EXPECT_EQ(second.num_kv_heads, 1);
  EXPECT_EQ(second.first_intermediate, 12);
}

TEST(RankShapeTest, ExpertsAreSplitByColumns) {
  ModelConfig config = Config();
  config.moe.num_experts = 60;
  config.moe.intermediate_size = 12;
  config.moe.shared_intermediate_size = 20;
  const RankShape second = MakeRankShape(config, 1, 2);
  EXPECT_EQ(second.first_expert_intermediate, 6);
  EXPECT_EQ(second.num_expert_intermediate, 6);
  EXPECT_EQ(second.first_shared_intermediate, 10);
  EXPECT_EQ(second.num_shared_intermediate, 10);
}

TEST(RankShapeTest, RoutersHaveARowForTheSharedExpertsGate) {
  MoeConfig moe;
  moe.num_experts = 64;
  EXPECT_EQ(RouterRows(moe), 64);
  moe.shared_intermediate_size = 1;
  EXPECT_EQ(RouterRows(moe), 72);
  moe.num_experts = 60;
  EXPECT_EQ(RouterRows(moe), 64);
}

TEST(RankShapeTest, KvHeadsAreCopiedWhenThereAreMoreRanks) {
  const int32_t expected[] = {0, 0, 0, 0, 1, 1, 1, 1};
  for (int32_t rank = 0; rank < 8; ++rank) {
    const RankShape shape = MakeRankShape(Config(), rank, 8);
    EXPECT_EQ(shape.num_q_heads, 1);
    EXPECT_EQ(shape.num_kv_heads, 1);
    EXPECT_EQ(shape.first_kv_head, expected[rank]);
  }
}

}  // namespace
}  // namespace quire
