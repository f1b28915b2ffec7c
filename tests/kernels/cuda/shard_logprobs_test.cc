// SPDX-License-Identifier: Apache-2.0
//
// One device is every shard, one after the other.
#include "kernels/shard_logprobs.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/sharded_choice.h"
#include "tests/reference/shaped_choice.h"

namespace quire {
namespace {

// Rows, and their tokens.
struct Wishes {
  explicit Wishes(int32_t num_vocab) : world(num_vocab) {}

  World world;
  std::vector<int32_t> tokens;  // [rows]

  void Add(const std::vector<float>& logits, int32_t token, int32_t num_top) {
    world.logprob_rows.push_back({world.AddRow(logits).row, num_top});
    tokens.push_back(token);
  }
  TokenLogprobs Expected(size_t i) const {
    const LogprobRow& wish = world.logprob_rows[i];
    return reference::Logprobs(
        world.logits.data() + int64_t{wish.row} * world.num_vocab,
        world.num_vocab, tokens[wish.row], wish.num_top);
  }
};

// Of every kind of logits: likely tokens and any.
Wishes RandomWishes(int32_t num_vocab, int32_t num_rows, uint64_t seed) {
  Wishes wishes(num_vocab);
  std::mt19937_64 random(seed);
  for (int32_t i = 0; i < num_rows; ++i) {
    std::vector<float> logits = RandomLogits(num_vocab, i % 6, &random);
    if (i % 7 == 3) {  // one token has nearly all
      logits[random() % num_vocab] = 30;
    }
    // Zeros of either sign, and what is not above them.
    if (i % 7 == 5) {
      for (float& logit : logits) {
        logit = logit > 0 ? 0.0f : logit < -1 ? logit : -0.0f;
      }
    }
    int32_t token = static_cast<int32_t>(random() % num_vocab);
    if (i % 3 == 0 || logits[token] == -kInf) {
      token = static_cast<int32_t>(
          std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
    const int32_t num_tops[] = {0, 1, 5, 20, kMaxTopLogprobs};
    wishes.Add(logits, token, num_tops[random() % 5]);
  }
  return wishes;
}

class ShardLogprobsTest : public ShardedChoiceFixture {
 protected:
  static std::vector<TokenLogprobs> Poison(const Wishes& wishes) {
    std::vector<TokenLogprobs> logprobs(wishes.world.logprob_rows.size());
    std::memset(logprobs.data(), 0x7f, logprobs.size() * sizeof(TokenLogprobs));
    return logprobs;
  }

  // What shards take for the wishes.
  static std::vector<TokenLogprobs> Sharded(const Wishes& wishes,
                                            const Cut& cut) {
    const World& world = wishes.world;
    ShardLogprobsParams p = {};
    p.num_shards = static_cast<int32_t>(cut.size());
    p.rows = ToDevice(world.logprob_rows);
    p.num_rows = static_cast<int32_t>(world.logprob_rows.size());
    for (const LogprobRow& row : world.logprob_rows) {
      p.max_top = std::max(p.max_top, row.num_top);
    }
    p.tokens = ToDevice(wishes.tokens);
    std::vector<const float*> logits;
    int32_t first_id = 0;
    for (const int32_t size : cut) {
      logits.push_back(Columns(world, first_id, size));
      first_id += size;
    }
    CHECK_EQ(first_id, world.num_vocab);
    p.chosen = reinterpret_cast<const float*>(
        Say(LogprobStage::kChosen, p, logits, cut));
    p.sums = reinterpret_cast<const ListedToken*>(
        Say(LogprobStage::kSums, p, logits, cut));
    std::vector<TokenLogprobs> logprobs = Poison(wishes);
    p.stage = LogprobStage::kLogprobs;
    p.logprobs = ToDevice(logprobs);
    CHECK(backend_->TakeShardLogprobs(p).ok());
    ToHost(p.logprobs, &logprobs);
    Synchronize();
    return logprobs;
  }

 private:
  // What all shards say, as the others hear it.
  static const uint32_t* Say(LogprobStage stage, ShardLogprobsParams p,
                             const std::vector<const float*>& logits,
                             const Cut& cut) {
    const int64_t words = p.num_rows * LogprobBytes(stage, p.max_top) / 4;
    // What nobody writes is such as would be noticed.
    std::vector<uint32_t> heard(words * cut.size(), 0x7f123456u);
    uint32_t* const said = ToDevice(heard);
    p.stage = stage;
    for (size_t shard = 0; shard < cut.size(); ++shard) {
      p.logits = logits[shard];
      p.num_vocab = cut[shard];
      p.said = said + shard * words;
      const absl::Status status = backend_->TakeShardLogprobs(p);
      CHECK(status.ok()) << status;
      p.first_id += p.num_vocab;
    }
    ToHost(said, &heard);
    CHECK(backend_->Synchronize().ok());
    // Words whose only set bit is the sign's may be lost between ranks.
    std::replace(heard.begin(), heard.end(), 0x80000000u, 0u);
    return ToDevice(heard);
  }
};

// Of a float of that size, and a sum whose shares are within 1e-6.
float ErrorOf(float logprob) { return 1e-5f + 2e-7f * std::abs(logprob); }

void ExpectExpected(const std::vector<TokenLogprobs>& got,
                    const Wishes& wishes) {
  for (size_t i = 0; i < got.size(); ++i) {
    const TokenLogprobs want = wishes.Expected(i);
    EXPECT_NEAR(got[i].logprob, want.logprob, ErrorOf(want.logprob)) << i;
    EXPECT_EQ(got[i].rank, want.rank) << i;
    for (int32_t j = 0; j < kMaxTopLogprobs; ++j) {
      ASSERT_EQ(got[i].top_ids[j], want.top_ids[j]) << i << ", " << j;
      if (want.top_ids[j] < 0) continue;
      EXPECT_NEAR(got[i].top_logprobs[j], want.top_logprobs[j],
                  ErrorOf(want.top_logprobs[j]));
    }
  }
}

bool AreSame(const TokenLogprobs& a, const TokenLogprobs& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

// More shards than a warp has lanes.
Cut ManyShards(int32_t num_vocab) {
  Cut cut(33, num_vocab / 40);
  cut[7] = 0;
  for (size_t shard = 1; shard < cut.size(); ++shard) num_vocab -= cut[shard];
  cut[0] = num_vocab;
  return cut;
}

class VocabularyTest : public ShardLogprobsTest,
                       public testing::WithParamInterface<int32_t> {};

TEST_P(VocabularyTest, ShardsTakeThoseOfTheWholeRow) {
  const int32_t num_vocab = GetParam();
  const Wishes wishes = RandomWishes(num_vocab, 30, num_vocab);
  std::vector<Cut> cuts = CutsOf(num_vocab);
  cuts.push_back(ManyShards(num_vocab));
  for (const Cut& cut : cuts) {
    SCOPED_TRACE(testing::Message() << cut.size() << " shards");
    ExpectExpected(Sharded(wishes, cut), wishes);
  }
}

INSTANTIATE_TEST_SUITE_P(Odd, VocabularyTest,
                         testing::Values(211, 1025, 8193, 50257, 128256),
                         [](const auto& info) {
                           return "Vocabulary" + std::to_string(info.param);
                         });

TEST_F(ShardLogprobsTest, ARunRepeatsAndOtherRowsDoNotChangeARow) {
  const Wishes all = RandomWishes(50257, 200, 3);
  const Cut cut = CutsOf(50257).back();
  const auto together = Sharded(all, cut);
  const auto again = Sharded(all, cut);
  for (size_t i = 0; i < together.size(); ++i) {
    EXPECT_TRUE(AreSame(together[i], again[i])) << i;
  }
  for (const int32_t row : {0, 17, 101, 199}) {
    Wishes alone(all.world.num_vocab);
    const auto begin = all.world.logits.begin() + int64_t{row} * 50257;
    alone.Add({begin, begin + 50257}, all.tokens[row],
              all.world.logprob_rows[row].num_top);
    EXPECT_TRUE(AreSame(Sharded(alone, cut)[0], together[row])) << row;
  }
}

// Of rows between others, in any order; the others' are not looked at.
TEST_F(ShardLogprobsTest, ARowIsWhereItSaysInLogitsAndTokens) {
  Wishes wishes = RandomWishes(8193, 12, 5);
  wishes.world.logprob_rows = {{11, 3}, {2, 0}, {7, 32}};
  for (int32_t row = 0; row < 12; ++row) {
    if (row != 11 && row != 2 && row != 7) wishes.tokens[row] = kPoison;
  }
  ExpectExpected(Sharded(wishes, {5000, 0, 3000, 193}), wishes);
}

// They have none, and what is there stays; other rows have theirs.
TEST_F(ShardLogprobsTest, TokensThatAreErrorsAreLeft) {
  Wishes wishes = RandomWishes(9000, 9, 6);
  float* const logits = wishes.world.logits.data();
  logits[3 * 9000 + 8999] = kNan;
  logits[5 * 9000] = kInf;
  wishes.tokens[3] = wishes.tokens[5] = kLogitsNotFinite;
  wishes.tokens[8] = kNoToken;
  const TokenLogprobs poison = Poison(wishes)[0];
  for (const Cut& cut : CutsOf(9000)) {
    std::vector<TokenLogprobs> got = Sharded(wishes, cut);
    Wishes others = wishes;
    for (const size_t row : {8, 5, 3}) {
      EXPECT_TRUE(AreSame(got[row], poison)) << row;
      got.erase(got.begin() + row);
      auto& rows = others.world.logprob_rows;
      rows.erase(rows.begin() + row);
    }
    ExpectExpected(got, others);
  }
}

// A list of all shards' equal logits holds the lowest ids.
TEST_F(ShardLogprobsTest, OfEqualLogitsTheLowerIdsAreFirst) {
  Wishes wishes(20000);
  wishes.Add(std::vector<float>(20000, 1.5f), 12345, 32);
  const Cut cut = {20, 9000, 5, 0, 10975};
  const std::vector<TokenLogprobs> got = Sharded(wishes, cut);
  ExpectExpected(got, wishes);
  EXPECT_EQ(got[0].rank, 1);
  EXPECT_EQ(got[0].top_ids[31], 31);
}

}  // namespace
}  // namespace quire
