// SPDX-License-Identifier: Apache-2.0
//
// Rows from which the ranks of a group choose on their devices, beside what one
// device chooses from the same rows whole.
#ifndef TESTS_WORKER_SAMPLER_GROUP_ROWS_H_
#define TESTS_WORKER_SAMPLER_GROUP_ROWS_H_

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/sampler/sharded_logits.h"
#include "worker/batch/slot_state.h"
#include "worker/collective/local.h"
#include "worker/sampler/device_chooser.h"
#include "worker/sampler/seen_counts.h"

namespace quire {

inline constexpr int32_t kUntouched = -7;
inline constexpr float kInf = std::numeric_limits<float>::infinity();

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
inline SlotStates States(const std::vector<SlotSampling>& samplings,
                         int32_t vocab) {
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

// With ties across shards, holes, and what cannot be chosen from.
inline std::vector<float> MixedLogits(int32_t num_rows, int32_t vocab) {
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

// What one device chooses from whole rows; of rows that are not `is_chosen`
// kUntouched.
inline std::vector<int32_t> Expected(std::vector<float> logits, int32_t vocab,
                                     const SlotStates& states,
                                     const std::vector<SlotId>& slots,
                                     bool (*is_chosen)(const Slot&)) {
  FakeBackend backend;
  backend.set_chooses_shaped();
  const int32_t num_rows = static_cast<int32_t>(slots.size());
  const auto seen = *SeenCounts::Create(&backend, vocab, num_rows,
                                        /*max_model_len=*/16);
  const auto chooser = *DeviceChooser::Create(&backend, vocab, num_rows,
                                              seen.get(), /*is_group=*/false);
  EXPECT_TRUE(seen->Send(slots, states, /*flight=*/0).ok());
  std::vector<int32_t> tokens(num_rows), by_slot(num_rows);
  EXPECT_TRUE(chooser
                  ->Enqueue(logits.data(), slots, states, /*flight=*/0,
                            tokens.data(), by_slot.data())
                  .ok());
  for (int32_t i = 0; i < num_rows; ++i) {
    if (!is_chosen(states.slot(slots[i]))) tokens[i] = kUntouched;
  }
  return tokens;
}

// What is wrong with three equal steps of one rank; empty: nothing. `want`: a
// token for each of `slots`, whose rows are the rank's columns of `logits`.
template <typename Choice>
std::string WhatIsWrong(Collective* real, const VocabShard& shard,
                        const std::vector<float>& own, const SlotStates& states,
                        const std::vector<SlotId>& slots,
                        const std::vector<int32_t>& want,
                        const std::vector<int64_t>& gathered_bytes) {
  const int32_t num_rows = static_cast<int32_t>(slots.size());
  FakeBackend backend;
  backend.set_chooses_shaped();
  CountingCollective collective(real);
  const auto choice = Choice::Create(&backend, &collective, shard, num_rows);
  if (!choice.ok()) return choice.status().ToString();
  const int64_t allocated = backend.allocated_bytes();
  std::vector<int32_t> want_by_slot(num_rows);
  for (int32_t i = 0; i < num_rows; ++i) {
    want_by_slot[slots[i].value()] = want[i];
  }
  std::vector<int64_t> want_gathered;
  for (int32_t step = 0; step < 3; ++step) {
    std::vector<int32_t> tokens(num_rows, kUntouched), by_slot = tokens;
    const absl::Status status = (*choice)->Enqueue(
        own.data(), slots, states, step % 2, tokens.data(), by_slot.data());
    if (!status.ok()) return status.ToString();
    if (tokens != want) {
      return "other tokens: " + testing::PrintToString(tokens) + " for " +
             testing::PrintToString(want);
    }
    if (by_slot != want_by_slot) return "other tokens by slot";
    want_gathered.insert(want_gathered.end(), gathered_bytes.begin(),
                         gathered_bytes.end());
  }
  if (backend.allocated_bytes() != allocated) return "a step allocates";
  if (collective.gathered() != want_gathered) {
    return "gathered " + testing::PrintToString(collective.gathered());
  }
  return "";
}

// The same for each rank of a group that chooses among itself what one device
// chooses from whole rows. Choice: ListedChoice or NucleusChoice, which serves
// the rows of `is_chosen`.
template <typename Choice>
std::vector<std::string> WhatIsWrongWithRanks(
    int32_t world, int32_t vocab, const std::vector<SlotSampling>& samplings,
    bool (*is_chosen)(const Slot&),
    const std::vector<int64_t>& gathered_bytes) {
  const int32_t num_rows = static_cast<int32_t>(samplings.size());
  const std::vector<float> logits = MixedLogits(num_rows, vocab);
  const SlotStates states = States(samplings, vocab);
  std::vector<SlotId> slots;  // not in the order of rows
  for (int32_t i = 0; i < num_rows; ++i) {
    slots.push_back(SlotId(num_rows - 1 - i));
  }
  const std::vector<int32_t> want =
      Expected(logits, vocab, states, slots, is_chosen);
  LocalGroup group(world);
  std::vector<std::string> wrong(world);
  std::vector<std::thread> ranks;
  for (int32_t rank = 0; rank < world; ++rank) {
    ranks.emplace_back([&, rank] {
      const VocabShard shard = ShardOf(vocab, rank, world);
      wrong[rank] = WhatIsWrong<Choice>(group.collective(rank), shard,
                                        ColumnsOf(logits, vocab, shard), states,
                                        slots, want, gathered_bytes);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  return wrong;
}

}  // namespace quire

#endif  // TESTS_WORKER_SAMPLER_GROUP_ROWS_H_
