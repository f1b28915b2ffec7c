// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/listed_choice.h"

#include <cmath>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/sampler/sharded_logits.h"
#include "worker/collective/local.h"
#include "worker/sampler/device_chooser.h"
#include "worker/sampler/plain_row.h"

namespace quire {
namespace {

constexpr int32_t kUntouched = -7;
constexpr float kInf = std::numeric_limits<float>::infinity();

// Remembers what is gathered.
class CountingCollective final : public Collective {
 public:
  explicit CountingCollective(Collective* real) : real_(real) {}
  int32_t rank() const override { return real_->rank(); }
  int32_t world_size() const override { return real_->world_size(); }
  absl::Status AllReduceSum(void* data, int64_t n, DType dtype) override {
    return real_->AllReduceSum(data, n, dtype);
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes) override {
    gathered_.push_back(bytes);
    return real_->AllGather(in, out, bytes);
  }
  absl::Status Barrier() override { return real_->Barrier(); }

  const std::vector<int64_t>& gathered() const { return gathered_; }

 private:
  Collective* const real_;
  std::vector<int64_t> gathered_;  // bytes of each call
};

// Slots of one token each, with what they ask for.
SlotStates States(const std::vector<SlotSampling>& samplings, int32_t vocab) {
  const int32_t num_slots = static_cast<int32_t>(samplings.size());
  SlotLimits limits;
  limits.max_num_seqs = num_slots;
  limits.max_model_len = 16;
  limits.block_size = 16;
  limits.num_blocks = num_slots;
  limits.vocab_size = vocab;
  SlotStates states(limits);
  StepPlan plan;
  for (int32_t i = 0; i < num_slots; ++i) {
    AdmittedSlot& admitted = plan.admitted.emplace_back();
    admitted.slot = SlotId(i);
    admitted.tokens = {1};
    admitted.num_prompt_tokens = 1;
    admitted.cache = std::vector<BlockId>{BlockId(i)};
    admitted.sampling = samplings[i];
  }
  EXPECT_TRUE(states.Apply(plan).ok());
  return states;
}

// Listed rows with every filter among plain ones and others.
std::vector<SlotSampling> MixedSamplings(int32_t num_rows) {
  std::vector<SlotSampling> samplings(num_rows);
  for (int32_t i = 0; i < num_rows; ++i) {
    SlotSampling& sampling = samplings[i];
    sampling.seed = 77 * i;
    sampling.temperature = 0.4f + 0.3f * (i % 3);
    if (i % 5 < 3) sampling.top_k = 1 + 13 * (i % 4);
    if (i % 3 == 1) sampling.top_p = 0.8f;
    if (i % 4 == 2) sampling.min_p = 0.05f;
    if (i % 7 == 5) sampling.presence_penalty = 1;
    if (i % 11 == 7) sampling.num_logprobs = 2;
  }
  return samplings;
}

// With ties across shards, holes, and what cannot be chosen from.
std::vector<float> MixedLogits(int32_t num_rows, int32_t vocab) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(int64_t{num_rows} * vocab);
  for (int32_t row = 0; row < num_rows; ++row) {
    for (int32_t id = 0; id < vocab; ++id) {
      float& logit = logits[int64_t{row} * vocab + id];
      logit = normal(random);
      if (row % 3 == 0) logit = std::round(logit);
      if (row % 6 == 1 && id % 4 > 0) logit = -kInf;
      if (row % 30 == 10) logit = -kInf;
      if (row % 30 == 11 && id == vocab - 1) logit = std::nanf("");
      if (row % 30 == 12 && id == 0) logit = kInf;
    }
  }
  return logits;
}

// What one device chooses from whole rows; of other rows kUntouched.
std::vector<int32_t> Expected(std::vector<float> logits, int32_t vocab,
                              const SlotStates& states,
                              const std::vector<SlotId>& slots) {
  FakeBackend backend;
  backend.set_chooses_shaped();
  const int32_t num_rows = static_cast<int32_t>(slots.size());
  const auto chooser =
      *DeviceChooser::Create(&backend, vocab, num_rows, /*max_model_len=*/16,
                             /*leaves_listed=*/false);
  std::vector<int32_t> tokens(num_rows), by_slot(num_rows);
  EXPECT_TRUE(chooser
                  ->Enqueue(logits.data(), slots, states, /*flight=*/0,
                            tokens.data(), by_slot.data())
                  .ok());
  for (int32_t i = 0; i < num_rows; ++i) {
    if (!IsListedRow(states.slot(slots[i]))) tokens[i] = kUntouched;
  }
  return tokens;
}

void ExpectRanksChooseAsOne(int32_t world, int32_t vocab,
                            const std::vector<SlotSampling>& samplings,
                            const std::vector<int64_t>& gathered_bytes) {
  const int32_t num_rows = static_cast<int32_t>(samplings.size());
  const std::vector<float> logits = MixedLogits(num_rows, vocab);
  const SlotStates states = States(samplings, vocab);
  std::vector<SlotId> slots;  // not in the order of rows
  for (int32_t i = 0; i < num_rows; ++i) {
    slots.push_back(SlotId(num_rows - 1 - i));
  }
  const std::vector<int32_t> want = Expected(logits, vocab, states, slots);
  LocalGroup group(world);
  std::vector<std::thread> ranks;
  for (int32_t rank = 0; rank < world; ++rank) {
    ranks.emplace_back([&, rank] {
      const VocabShard shard = ShardOf(vocab, rank, world);
      const std::vector<float> own = ColumnsOf(logits, vocab, shard);
      FakeBackend backend;
      backend.set_chooses_shaped();
      CountingCollective collective(group.collective(rank));
      const auto choice =
          ListedChoice::Create(&backend, &collective, shard, num_rows);
      ASSERT_TRUE(choice.ok()) << choice.status();
      const int64_t allocated = backend.allocated_bytes();
      for (int32_t step = 0; step < 3; ++step) {
        std::vector<int32_t> tokens(num_rows, kUntouched), by_slot = tokens;
        const absl::Status status = (*choice)->Enqueue(
            own.data(), slots, states, step % 2, tokens.data(), by_slot.data());
        ASSERT_TRUE(status.ok()) << status;
        EXPECT_EQ(tokens, want) << "rank " << rank << " of " << world;
        for (int32_t i = 0; i < num_rows; ++i) {
          EXPECT_EQ(by_slot[slots[i].value()], want[i]);
        }
      }
      EXPECT_EQ(backend.allocated_bytes(), allocated);
      std::vector<int64_t> gathered;  // by three equal steps
      for (int32_t step = 0; step < 3; ++step) {
        gathered.insert(gathered.end(), gathered_bytes.begin(),
                        gathered_bytes.end());
      }
      EXPECT_EQ(collective.gathered(), gathered);
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST(ListedChoiceTest, RanksChooseWhatOneDeviceChoosesFromWholeRows) {
  const std::vector<SlotSampling> samplings = MixedSamplings(60);
  int64_t num_listed = 0;
  for (const SlotSampling& sampling : samplings) {
    num_listed += sampling.top_k > 0 && sampling.presence_penalty == 0 &&
                  sampling.num_logprobs < 0;
  }
  ASSERT_GT(num_listed, 20);
  // Of the largest top_k, 40, and what a shard says besides.
  const int64_t bytes = num_listed * 41 * sizeof(ListedToken);
  for (const int32_t world : {2, 4, 8}) {
    // Shards with more tokens than top_k and with fewer, and empty ones.
    for (const int32_t vocab : {9, 97, 211}) {
      if (ShardOf(vocab, world - 1, world).num_ids < 0) continue;
      ExpectRanksChooseAsOne(world, vocab, samplings, {bytes});
    }
  }
}

TEST(ListedChoiceTest, ListsFollowTheLargestTopKOfTheStep) {
  std::vector<SlotSampling> samplings(3);
  samplings[0].top_k = 2;
  samplings[1].top_k = 5;
  samplings[2].top_k = kMaxListed + 1;  // not listed
  ExpectRanksChooseAsOne(2, 31, samplings, {2 * 6 * sizeof(ListedToken)});
}

TEST(ListedChoiceTest, ManyLongListsTravelInPieces) {
  std::vector<SlotSampling> samplings(260);
  for (size_t i = 0; i < samplings.size(); ++i) {
    samplings[i].seed = i;
    samplings[i].top_k = kMaxListed;
  }
  const int64_t row_bytes = (1 + kMaxListed) * int64_t{sizeof(ListedToken)};
  // Of four ranks together 8 MiB.
  ExpectRanksChooseAsOne(4, 1300, samplings, {255 * row_bytes, 5 * row_bytes});
}

TEST(ListedChoiceTest, WithoutListedRowsNothingTravels) {
  std::vector<SlotSampling> samplings(4);
  samplings[1].top_p = 0.5f;
  samplings[2].top_k = 5;
  samplings[2].num_logprobs = 0;
  samplings[3].temperature = 0;
  samplings[3].top_k = 5;
  ExpectRanksChooseAsOne(2, 31, samplings, {});
}

}  // namespace
}  // namespace quire
