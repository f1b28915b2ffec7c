// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/seen_counts.h"

#include <map>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"

namespace quire {
namespace {

constexpr int32_t kSlots = 4;

AdmittedSlot Sequence(int32_t slot, std::vector<TokenId> tokens,
                      float penalty) {
  AdmittedSlot admitted;
  admitted.slot = SlotId(slot);
  admitted.tokens = tokens;
  admitted.num_prompt_tokens = 2;
  admitted.cache = std::vector<BlockId>{BlockId(slot)};
  admitted.sampling.frequency_penalty = penalty;
  return admitted;
}

SlotLimits Limits() {
  SlotLimits limits;
  limits.max_num_seqs = kSlots;
  limits.max_model_len = 16;
  limits.block_size = 16;
  limits.num_blocks = kSlots;
  limits.vocab_size = 100;
  return limits;
}

class SeenCountsTest : public testing::Test {
 protected:
  SeenCountsTest() : states_(Limits()) {
    seen_ = *SeenCounts::Create(&backend_, /*num_vocab=*/100, kSlots,
                                /*max_model_len=*/16);
    StepPlan plan;
    plan.admitted = {Sequence(0, {5, 6, 5, 7, 7}, 1), Sequence(1, {1, 2}, 0),
                     Sequence(2, {8, 8}, 1), Sequence(3, {9, 9, 9}, 1)};
    EXPECT_TRUE(states_.Apply(plan).ok());
  }

  // How many slots' counts travel.
  int32_t Send(const std::vector<SlotId>& slots) {
    const int32_t before = backend_.num_copies_to_device();
    EXPECT_TRUE(seen_->Send(slots, states_, flight_).ok());
    flight_ = (flight_ + 1) % SeenCounts::kMaxFlights;
    return backend_.num_copies_to_device() - before;
  }

  // What the device has of a slot.
  std::map<int32_t, int32_t> CountsOf(int32_t slot) const {
    const SeenToken* row = seen_->counts() + slot * seen_->stride();
    std::map<int32_t, int32_t> counts;
    for (int32_t i = 1; i <= reinterpret_cast<const SeenHeader*>(row)->count;
         ++i) {
      counts[row[i].token_id] = row[i].output_count;
    }
    return counts;
  }
  using Counts = std::map<int32_t, int32_t>;

  FakeBackend backend_;
  SlotStates states_;
  std::unique_ptr<SeenCounts> seen_;
  int32_t flight_ = 0;
};

TEST_F(SeenCountsTest, SendsWhatPenalisedSequencesHaveSeenOnce) {
  EXPECT_EQ(Send({SlotId(2), SlotId(1), SlotId(0)}), 2);
  EXPECT_EQ(CountsOf(0), (Counts{{5, 1}, {6, 0}, {7, 2}}));
  EXPECT_EQ(CountsOf(2), (Counts{{8, 0}}));
  EXPECT_EQ(Send({SlotId(0), SlotId(2), SlotId(3)}), 1);
  EXPECT_EQ(CountsOf(3), (Counts{{9, 1}}));
  EXPECT_EQ(Send({SlotId(0), SlotId(1), SlotId(2), SlotId(3)}), 0);
}

TEST_F(SeenCountsTest, SendsAgainWhatWasChosenElsewhere) {
  Send({SlotId(0), SlotId(2)});
  StepPlan plan;
  plan.decodes = {SlotId(2)};
  states_.Commit(plan, {TokenId{4}});
  EXPECT_EQ(Send({SlotId(2)}), 0);  // counted by the device, as a rule
  seen_->Forget(plan.decodes);
  EXPECT_EQ(Send({SlotId(0), SlotId(2)}), 1);
  EXPECT_EQ(CountsOf(2), (Counts{{4, 1}, {8, 0}}));
}

TEST_F(SeenCountsTest, SendsTheCountsOfASlotsNextSequence) {
  Send({SlotId(0)});
  StepPlan plan;
  plan.released = {SlotId(0)};
  plan.admitted = {Sequence(0, {3, 4}, 1)};
  ASSERT_TRUE(states_.Apply(plan).ok());
  EXPECT_EQ(Send({SlotId(0)}), 1);
  EXPECT_EQ(CountsOf(0), (Counts{{3, 0}, {4, 0}}));
}

TEST_F(SeenCountsTest, CountsOfTwoStepsMayBeOnTheirWay) {
  // Memory that is large enough.
  for (int32_t step = 0; step < 2; ++step) {
    seen_->Forget({SlotId(0)});
    Send({SlotId(0)});
  }
  Send({SlotId(2)});
  Send({});
  StepPlan plan;
  plan.released = {SlotId(0), SlotId(2)};
  plan.admitted = {Sequence(0, {3, 4}, 1), Sequence(2, {1, 2}, 1)};
  ASSERT_TRUE(states_.Apply(plan).ok());
  backend_.set_late();
  Send({SlotId(0)});
  Send({SlotId(2)});
  EXPECT_EQ(CountsOf(0), (Counts{{5, 1}, {6, 0}, {7, 2}}));
  ASSERT_TRUE(backend_.Synchronize().ok());
  EXPECT_EQ(CountsOf(0), (Counts{{3, 0}, {4, 0}}));
  EXPECT_EQ(CountsOf(2), (Counts{{1, 0}, {2, 0}}));
}

}  // namespace
}  // namespace quire
