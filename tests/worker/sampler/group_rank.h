// SPDX-License-Identifier: Apache-2.0
//
// All that a rank of a group chooses with, in the order of the executor; and
// steps of a group beside those of one device.
#ifndef TESTS_WORKER_SAMPLER_GROUP_RANK_H_
#define TESTS_WORKER_SAMPLER_GROUP_RANK_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/sampler/group_rows.h"
#include "worker/sampler/group_logprobs.h"
#include "worker/sampler/listed_choice.h"
#include "worker/sampler/nucleus_choice.h"
#include "worker/sampler/shard_edits.h"
#include "worker/sampler/whole_rows.h"

namespace quire {

inline constexpr int32_t kMaxModelLen = 16;  // of States()

// A rank's device, and what it chooses with.
class GroupRank {
 public:
  GroupRank(Collective* group, int32_t vocab, int32_t num_rows)
      : collective_(group),
        vocab_(vocab),
        shard_(ShardOf(vocab, group->rank(), group->world_size())) {
    backend_.set_chooses_shaped();
    whole_ = *WholeRows::Create(&backend_, &collective_, shard_, num_rows);
    seen_ = *SeenCounts::Create(&backend_, vocab, num_rows, kMaxModelLen);
    edits_ = *ShardEdits::Create(&backend_, &collective_, shard_, num_rows,
                                 seen_.get());
    listed_ = *ListedChoice::Create(&backend_, &collective_, shard_, num_rows);
    nucleus_ =
        *NucleusChoice::Create(&backend_, &collective_, shard_, num_rows);
    chooser_ = *DeviceChooser::Create(&backend_, vocab, num_rows, seen_.get(),
                                      /*is_group=*/true);
    logprobs_ =
        *GroupLogprobs::Create(&backend_, &collective_, shard_, num_rows);
  }

  // Of rows of `logits`, [rows, vocab]; plain ones keep what `tokens` has.
  // Appends log probabilities to `logprobs`.
  std::vector<int32_t> Choose(const std::vector<float>& logits,
                              const SlotStates& states,
                              const std::vector<SlotId>& slots, int32_t flight,
                              std::vector<int32_t> tokens,
                              std::vector<SampledLogprobs>* logprobs) {
    const std::vector<float> own = ColumnsOf(logits, vocab_, shard_);
    std::vector<float> rows = own;
    std::vector<int32_t> by_slot(slots.size(), kUntouched);
    for (size_t i = 0; i < slots.size(); ++i) {
      by_slot[slots[i].value()] = tokens[i];
    }
    EXPECT_TRUE(seen_->Send(slots, states, flight).ok());
    const auto enqueue = [&](auto* choice, float* from) {
      const absl::Status status = choice->Enqueue(
          from, slots, states, flight, tokens.data(), by_slot.data());
      EXPECT_TRUE(status.ok()) << status;
    };
    enqueue(edits_.get(), rows.data());
    enqueue(listed_.get(), rows.data());
    enqueue(nucleus_.get(), rows.data());
    EXPECT_TRUE(edits_->Finish().ok());
    EXPECT_TRUE(whole_->Gather(rows.data(), slots, states, *chooser_).ok());
    enqueue(chooser_.get(), whole_->rows());
    EXPECT_TRUE(
        logprobs_->Enqueue(rows.data(), slots, states, flight, tokens.data())
            .ok());
    logprobs_->Read(flight, logprobs);
    for (size_t i = 0; i < slots.size(); ++i) {
      EXPECT_EQ(by_slot[slots[i].value()], tokens[i]);
      if (states.slot(slots[i]).sampling.num_logprobs < 0 ||
          shard_.num_ids == 0) {
        continue;
      }
      EXPECT_EQ(std::memcmp(rows.data() + i * shard_.num_ids,
                            own.data() + i * shard_.num_ids,
                            shard_.num_ids * sizeof(float)),
                0)
          << "row " << i << " stays edited";
    }
    return tokens;
  }

  // The same without plain rows' tokens and log probabilities.
  std::vector<int32_t> Choose(const std::vector<float>& logits,
                              const SlotStates& states,
                              const std::vector<SlotId>& slots,
                              int32_t flight) {
    std::vector<SampledLogprobs> logprobs;
    return Choose(logits, states, slots, flight,
                  std::vector<int32_t>(slots.size(), kUntouched), &logprobs);
  }

  const FakeBackend& backend() const { return backend_; }
  const CountingCollective& collective() const { return collective_; }

 private:
  FakeBackend backend_;
  CountingCollective collective_;
  const int32_t vocab_;
  const VocabShard shard_;
  std::unique_ptr<WholeRows> whole_;
  std::unique_ptr<SeenCounts> seen_;
  std::unique_ptr<ShardEdits> edits_;
  std::unique_ptr<ListedChoice> listed_;
  std::unique_ptr<NucleusChoice> nucleus_;
  std::unique_ptr<DeviceChooser> chooser_;
  std::unique_ptr<GroupLogprobs> logprobs_;
};

// Not in the order of rows.
inline std::vector<SlotId> SlotsOf(const std::vector<SlotSampling>& samplings) {
  std::vector<SlotId> slots;
  for (size_t i = samplings.size(); i-- > 0;) {
    slots.push_back(SlotId(static_cast<int32_t>(i)));
  }
  return slots;
}

// Steep and flat ones, some with ties, which edits make and break.
inline std::vector<float> LogitsOf(int32_t step, int32_t num_rows,
                                   int32_t vocab) {
  std::mt19937 random(17 + step);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(int64_t{num_rows} * vocab);
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = normal(random);
    if (i / vocab % 3 == 0) logits[i] = std::round(logits[i]);
  }
  return logits;
}

// What a step of rows comes to.
struct ChosenStep {
  std::vector<int32_t> tokens;
  std::vector<SampledLogprobs> logprobs;
};

inline constexpr int32_t kSteps = 10;

// The tokens of rows in a step before any is chosen; plain rows keep them.
inline std::vector<int32_t> TokensBefore(int32_t num_rows, int32_t vocab) {
  std::vector<int32_t> tokens(num_rows);
  for (int32_t i = 0; i < num_rows; ++i) tokens[i] = 7 * i % vocab;
  return tokens;
}

// Steps in a row, by one device that has rows whole.
inline std::vector<ChosenStep> ByOne(
    int32_t vocab, const std::vector<SlotSampling>& samplings) {
  const int32_t num_rows = static_cast<int32_t>(samplings.size());
  FakeBackend backend;
  backend.set_chooses_shaped();
  const auto seen =
      *SeenCounts::Create(&backend, vocab, num_rows, kMaxModelLen);
  const auto chooser = *DeviceChooser::Create(&backend, vocab, num_rows,
                                              seen.get(), /*is_group=*/false);
  SlotStates states = States(samplings, vocab);
  StepPlan plan;
  plan.decodes = SlotsOf(samplings);
  std::vector<ChosenStep> steps(kSteps);
  for (int32_t i = 0; i < kSteps; ++i) {
    ChosenStep& step = steps[i];
    std::vector<float> logits = LogitsOf(i, num_rows, vocab);
    step.tokens = TokensBefore(num_rows, vocab);
    std::vector<int32_t> by_slot(num_rows);
    EXPECT_TRUE(seen->Send(plan.decodes, states, i % 2).ok());
    EXPECT_TRUE(chooser
                    ->Enqueue(logits.data(), plan.decodes, states, i % 2,
                              step.tokens.data(), by_slot.data())
                    .ok());
    chooser->ReadLogprobs(i % 2, &step.logprobs);
    states.Commit(plan, step.tokens);
  }
  return steps;
}

inline void ExpectNear(float got, float want) {
  EXPECT_NEAR(got, want, 1e-6 * std::abs(want) + 1e-12);
}

// Equal but for what floats lose.
inline void ExpectSame(const std::vector<SampledLogprobs>& got,
                       const std::vector<SampledLogprobs>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].sample_idx, want[i].sample_idx);
    EXPECT_EQ(got[i].rank, want[i].rank) << "row " << want[i].sample_idx;
    ExpectNear(got[i].logprob, want[i].logprob);
    ASSERT_EQ(got[i].top.size(), want[i].top.size());
    for (size_t j = 0; j < want[i].top.size(); ++j) {
      EXPECT_EQ(got[i].top[j].token_id, want[i].top[j].token_id);
      ExpectNear(got[i].top[j].logprob, want[i].top[j].logprob);
    }
  }
}

// Ranks choose the same, though their hosts learn nothing from step to step.
inline void ExpectStepsAsByOne(int32_t world, int32_t vocab,
                               const std::vector<SlotSampling>& samplings) {
  const int32_t num_rows = static_cast<int32_t>(samplings.size());
  const std::vector<ChosenStep> want = ByOne(vocab, samplings);
  LocalGroup group(world);
  std::vector<std::thread> ranks;
  for (int32_t i = 0; i < world; ++i) {
    ranks.emplace_back([&, i] {
      GroupRank rank(group.collective(i), vocab, num_rows);
      SlotStates states = States(samplings, vocab);
      StepPlan plan;
      plan.decodes = SlotsOf(samplings);
      std::vector<UnknownToken> unknown;
      for (int32_t step = 0; step < kSteps; ++step) {
        SCOPED_TRACE(testing::Message()
                     << "step " << step << ", rank " << i << " of " << world
                     << ", vocabulary " << vocab);
        ChosenStep got;
        got.tokens =
            rank.Choose(LogitsOf(step, num_rows, vocab), states, plan.decodes,
                        step % 2, TokensBefore(num_rows, vocab), &got.logprobs);
        EXPECT_EQ(got.tokens, want[step].tokens);
        ExpectSame(got.logprobs, want[step].logprobs);
        states.Advance(plan, &unknown);
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

}  // namespace quire

#endif  // TESTS_WORKER_SAMPLER_GROUP_RANK_H_
