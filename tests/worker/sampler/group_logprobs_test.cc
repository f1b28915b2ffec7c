// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/group_logprobs.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/listed_choice.h"
#include "kernels/shard_logprobs.h"
#include "tests/reference/shaped_choice.h"
#include "tests/worker/sampler/group_rank.h"

namespace quire {
namespace {

// Columns of each rank.
using Cut = std::vector<int32_t>;

// Uneven ones, some empty.
Cut RandomCut(int32_t world, int32_t vocab, std::mt19937* random) {
  std::vector<int32_t> ends = {0, vocab};
  for (int32_t i = 1; i < world; ++i) {
    ends.push_back(i % 3 == 0 ? ends[i] : (*random)() % (vocab + 1));
  }
  std::sort(ends.begin(), ends.end());
  Cut cut;
  for (int32_t i = 0; i < world; ++i) cut.push_back(ends[i + 1] - ends[i]);
  return cut;
}

// Calls run(collective, shard) for each rank, on a thread of its own.
void OnRanks(const Cut& cut,
             const std::function<void(Collective*, const VocabShard&)>& run) {
  LocalGroup group(static_cast<int32_t>(cut.size()));
  std::vector<std::thread> ranks;
  VocabShard shard = {0, 0};
  for (size_t rank = 0; rank < cut.size(); ++rank) {
    shard.num_ids = cut[rank];
    ranks.emplace_back([&group, &run, rank, shard] {
      run(group.collective(static_cast<int32_t>(rank)), shard);
    });
    shard.first_id += shard.num_ids;
  }
  for (std::thread& rank : ranks) rank.join();
}

// Rows whose log probabilities are wanted, and some others between.
struct Rows {
  int32_t vocab;
  std::vector<SlotSampling> samplings;
  std::vector<float> logits;
  std::vector<int32_t> tokens;
};

// Flat rows and peaked ones, of which a token has nearly all; ties, and tokens
// that are impossible.
Rows RandomRows(int32_t num_rows, int32_t vocab, std::mt19937* random) {
  Rows rows = {vocab, {}, {}, {}};
  std::normal_distribution<float> normal(0, 3);
  for (int32_t row = 0; row < num_rows; ++row) {
    SlotSampling& sampling = rows.samplings.emplace_back();
    const int32_t num_tops[] = {-1, 0, 1, 20, kMaxTopLogprobs};
    sampling.num_logprobs = num_tops[row % 5];
    const auto peak = static_cast<int32_t>((*random)() % vocab);
    for (int32_t id = 0; id < vocab; ++id) {
      float logit = normal(*random);
      if (row % 3 == 1) logit = std::round(logit);
      if (row % 7 == 2 && id % 4 > 0 && id != peak) logit = -kInf;
      if (row % 4 == 3) logit = id == peak ? 20 : logit;
      if (row % 11 == 6) logit = id % 2 == 0 ? 0.0f : -0.0f;
      rows.logits.push_back(logit);
    }
    const auto any = static_cast<int32_t>((*random)() % vocab);
    rows.tokens.push_back(row % 2 == 0 || row % 7 == 2 ? peak : any);
  }
  return rows;
}

std::vector<SampledLogprobs> Expected(const Rows& rows,
                                      const std::vector<SlotId>& slots) {
  std::vector<SampledLogprobs> all;
  for (size_t i = 0; i < slots.size(); ++i) {
    const int32_t num_top = rows.samplings[slots[i].value()].num_logprobs;
    if (num_top < 0) continue;
    SampledLogprobs& one = all.emplace_back();
    one.sample_idx = static_cast<int32_t>(i);
    if (rows.tokens[i] < 0) continue;
    const TokenLogprobs want =
        reference::Logprobs(rows.logits.data() + i * rows.vocab, rows.vocab,
                            rows.tokens[i], num_top);
    one.logprob = want.logprob;
    one.rank = want.rank;
    for (int32_t j = 0; j < num_top && want.top_ids[j] >= 0; ++j) {
      one.top.push_back({want.top_ids[j], want.top_logprobs[j]});
    }
  }
  return all;
}

// As bits, and what a step of some rows gathers.
struct Heard {
  std::vector<SampledLogprobs> logprobs;
  std::vector<int64_t> gathered;
};

void ExpectEqual(const std::vector<SampledLogprobs>& a,
                 const std::vector<SampledLogprobs>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].logprob, b[i].logprob);
    ASSERT_EQ(a[i].top.size(), b[i].top.size());
    for (size_t j = 0; j < a[i].top.size(); ++j) {
      EXPECT_EQ(a[i].top[j].logprob, b[i].top[j].logprob);
    }
  }
}

// Three steps, of which the last must allocate nothing.
std::vector<Heard> Take(const Rows& rows, const Cut& cut) {
  const auto num_rows = static_cast<int32_t>(rows.samplings.size());
  const SlotStates states = States(rows.samplings, rows.vocab);
  const std::vector<SlotId> slots = SlotsOf(rows.samplings);
  std::vector<Heard> by_rank(cut.size());
  OnRanks(cut, [&](Collective* real, const VocabShard& shard) {
    Heard& heard = by_rank[real->rank()];
    FakeBackend backend;
    backend.set_chooses_shaped();
    CountingCollective collective(real);
    const auto group =
        *GroupLogprobs::Create(&backend, &collective, shard, num_rows);
    const int64_t allocated = backend.allocated_bytes();
    const std::vector<float> own = ColumnsOf(rows.logits, rows.vocab, shard);
    std::vector<SampledLogprobs> before;
    for (int32_t step = 0; step < 3; ++step) {
      const absl::Status status = group->Enqueue(own.data(), slots, states,
                                                 step % 2, rows.tokens.data());
      EXPECT_TRUE(status.ok()) << status;
      before.swap(heard.logprobs);
      heard.logprobs.clear();
      group->Read(step % 2, &heard.logprobs);
      if (step > 0) ExpectEqual(heard.logprobs, before);
    }
    EXPECT_EQ(backend.allocated_bytes(), allocated);
    heard.gathered = collective.gathered();
  });
  return by_rank;
}

TEST(GroupLogprobsTest, RanksTakeThoseOfTheWholeRowHoweverItIsCut) {
  std::mt19937 random(3);
  for (const int32_t world : {1, 2, 3, 8, 33}) {
    for (const int32_t vocab : {2, 40, 97, 1211}) {
      SCOPED_TRACE(testing::Message() << world << " ranks of " << vocab);
      const Rows rows = RandomRows(40, vocab, &random);
      const auto want = Expected(rows, SlotsOf(rows.samplings));
      const std::vector<Heard> by_rank =
          Take(rows, RandomCut(world, vocab, &random));
      ExpectSame(by_rank[0].logprobs, want);
      for (const Heard& heard : by_rank) {
        ExpectSame(heard.logprobs, want);
        ExpectEqual(heard.logprobs, by_rank[0].logprobs);
      }
    }
  }
}

// Neither by what they say nor by how much is said at once.
TEST(GroupLogprobsTest, OtherRowsDoNotChangeARow) {
  std::mt19937 random(4);
  const Rows all = RandomRows(25, 211, &random);
  const Cut cut = {100, 0, 70, 41};
  const auto together = Take(all, cut)[0].logprobs;
  for (const SampledLogprobs& one : together) {
    Rows alone = {all.vocab, {}, {}, {}};
    const auto row = static_cast<size_t>(one.sample_idx);
    alone.samplings = {all.samplings[24 - row]};
    const auto begin = all.logits.begin() + row * all.vocab;
    alone.logits.assign(begin, begin + all.vocab);
    alone.tokens = {all.tokens[row]};
    ExpectEqual(Take(alone, cut)[0].logprobs, {one});
  }
}

// Another row's are there all the same.
TEST(GroupLogprobsTest, TokensThatAreErrorsHaveNone) {
  std::mt19937 random(5);
  Rows rows = RandomRows(10, 31, &random);
  rows.logits[4] = std::nanf("");
  rows.tokens[0] = kLogitsNotFinite;
  rows.tokens[2] = kNoToken;
  const auto want = Expected(rows, SlotsOf(rows.samplings));
  for (Heard& heard : Take(rows, {10, 15, 6})) {
    ASSERT_EQ(heard.logprobs.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      if (rows.tokens[want[i].sample_idx] < 0) heard.logprobs[i] = want[i];
    }
    ExpectSame(heard.logprobs, want);
  }
}

// Of the step's largest num_top; nothing where nobody asks.
TEST(GroupLogprobsTest, SumsAndTopTokensTravelAndNoLogits) {
  std::mt19937 random(6);
  Rows rows = RandomRows(7, 57, &random);
  const auto gathered = [&] {
    const std::vector<int64_t> all = Take(rows, {29, 28})[0].gathered;
    EXPECT_EQ(all.size() % 3, 0);  // steps
    return std::vector<int64_t>(all.begin(), all.begin() + all.size() / 3);
  };
  for (SlotSampling& sampling : rows.samplings) sampling.num_logprobs = -1;
  EXPECT_EQ(gathered(), std::vector<int64_t>{});
  rows.samplings[2].num_logprobs = 0;
  EXPECT_EQ(gathered(), (std::vector<int64_t>{4, 16}));
  rows.samplings[5].num_logprobs = 5;
  rows.samplings[0].num_logprobs = 1;
  EXPECT_EQ(gathered(), (std::vector<int64_t>{3 * 4, 3 * (16 + 5 * 8)}));
}

// All kinds of rows, edited and masked ones among them, however chosen.
TEST(GroupLogprobsTest, OfWhateverRowsRanksChooseStepAfterStep) {
  for (const int32_t world : {1, 2, 3, 8, 33}) {
    // Shards of a few tokens, the last fewer or none.
    for (const int32_t vocab : {64, 97}) {
      if (ShardOf(vocab, world - 1, world).num_ids < 0) continue;
      std::vector<SlotSampling> samplings(60);
      for (int32_t i = 0; i < 60; ++i) {
        SlotSampling& sampling = samplings[i];
        sampling.seed = 31 * i;
        sampling.temperature = i % 8 == 5 ? 0 : 0.4f + 0.3f * (i % 3);
        sampling.num_logprobs = i % 4 - 1;
        if (i % 3 == 1) sampling.top_k = 1 + i % 30;
        if (i % 5 == 2) sampling.top_p = 0.7f;
        if (i % 7 == 3) sampling.top_k = kMaxListed + 1;
        if (i % 5 < 3) sampling.frequency_penalty = 0.5f;
        if (i % 7 == 1) sampling.repetition_penalty = 1.5f;
        if (i % 6 == 4) {
          sampling.logit_bias = {{0, 2.0f}, {vocab - 1, 2.5f}, {vocab, 9.0f}};
        }
        if (i % 11 == 8) sampling.bad_words = {{2}, {vocab - 2}};
        if (i % 13 == 4) sampling.allowed_token_ids = {1, 5, vocab - 1};
        if (i % 9 == 4) {
          sampling.min_tokens = 1 + i % 5;
          sampling.stop_token_ids = {1, 3, 5};
        }
      }
      ExpectStepsAsByOne(world, vocab, samplings);
    }
  }
}

// What an edit changes is as it was: lists that name a token twice, too.
TEST(GroupLogprobsTest, LogitsBeforeEditsCount) {
  std::vector<SlotSampling> samplings(12);
  for (int32_t i = 0; i < 12; ++i) {
    samplings[i].seed = i;
    samplings[i].num_logprobs = 3;
    samplings[i].presence_penalty = 2;
    // The token of the prompt.
    samplings[i].logit_bias = {{0, -3.0f}, {1, 5.0f}, {30, 1.0f}};
    if (i % 3 == 1) samplings[i].top_k = 9;
    if (i % 3 == 2) samplings[i].top_p = 0.5f;
  }
  ExpectStepsAsByOne(3, 31, samplings);
}

}  // namespace
}  // namespace quire
