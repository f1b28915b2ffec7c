// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/group_choice.h"

#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/sampler/sharded_logits.h"
#include "worker/collective/local.h"

namespace quire {
namespace {

constexpr int32_t kRows = 12;
constexpr int32_t kVocab = 211;

TEST(GroupChoiceTest, RanksChooseWhatOneRankChooses) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> logits(kRows * kVocab);
  for (float& x : logits) x = normal(random);
  std::vector<ChoiceRow> rows(kRows);
  for (int32_t i = 0; i < kRows; ++i) {
    // Row 5 is padding.
    rows[i] = {random(), 3 * i, (i % 3) * 0.6f, i == 5 ? -1 : 2 * i, 0};
  }
  const auto params_of = [&](const float* logits, int32_t num_vocab,
                             std::vector<int32_t>* tokens,
                             std::vector<int32_t>* by_slot) {
    tokens->assign(kRows, -7);
    by_slot->assign(2 * kRows, -7);
    return ChooseTokensParams{.logits = logits,
                              .rows = rows.data(),
                              .tokens = tokens->data(),
                              .by_slot = by_slot->data(),
                              .num_vocab = num_vocab,
                              .num_rows = kRows};
  };
  std::vector<int32_t> expected, expected_by_slot;
  FakeBackend alone;
  ASSERT_TRUE(alone
                  .ChooseTokens(params_of(logits.data(), kVocab, &expected,
                                          &expected_by_slot))
                  .ok());
  for (const int32_t world : {2, 4}) {
    LocalGroup group(world);
    std::vector<std::thread> ranks;
    for (int32_t rank = 0; rank < world; ++rank) {
      ranks.emplace_back([&, rank] {
        const VocabShard shard = ShardOf(kVocab, rank, world);
        const std::vector<float> own = ColumnsOf(logits, kVocab, shard);
        FakeBackend backend;
        const auto choice =
            GroupChoice::Create(&backend, group.collective(rank), shard, kRows);
        ASSERT_TRUE(choice.ok()) << choice.status();
        std::vector<int32_t> tokens, by_slot;
        const absl::Status status = (*choice)->Enqueue(
            params_of(own.data(), shard.num_ids, &tokens, &by_slot));
        ASSERT_TRUE(status.ok()) << status;
        EXPECT_EQ(tokens, expected) << "rank " << rank << " of " << world;
        EXPECT_EQ(by_slot, expected_by_slot);
      });
    }
    for (std::thread& rank : ranks) rank.join();
  }
}

}  // namespace
}  // namespace quire
