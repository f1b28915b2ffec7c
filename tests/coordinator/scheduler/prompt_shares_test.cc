// SPDX-License-Identifier: Apache-2.0
//
// One pass over tenants' prompts, without the decodes around it. Tenants share
// a budget in parts of a sixteenth of it, and of a block at least.
#include "coordinator/scheduler/prompt_shares.h"

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "coordinator/scheduler/block_arithmetic.h"
#include "coordinator/scheduler/kept_groups.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;

class PromptSharesTest : public testing::Test {
 protected:
  // Nobody waits, nobody runs, 100 blocks and 10 slots are free.
  void SetTenants(int num_tenants) {
    waiting_.resize(num_tenants);
    tenants_.resize(num_tenants);
    for (TenantView& tenant : tenants_) tenant.cost_per_token = 1;
    view_.block_size = kBlockSize;
    view_.num_free_blocks = 100;
    view_.num_free_slots = 10;
    view_.max_num_batched_tokens = 64;
  }

  WaitingGroup& Wait(int tenant, int64_t arrival, int32_t num_tokens) {
    WaitingGroup group;
    group.arrival = arrival;
    group.num_tokens = num_tokens;
    group.num_wanted_blocks = BlocksFor(num_tokens, kBlockSize);
    waiting_[tenant].push_back(group);
    return waiting_[tenant].back();
  }

  // A prompt of which so many tokens are computed.
  RunningSequence& Prompt(int tenant, int64_t arrival, int32_t num_tokens,
                          int32_t num_computed) {
    RunningSequence seq;
    seq.arrival = arrival;
    seq.tenant_idx = tenant;
    seq.num_tokens = seq.num_prefill_tokens = num_tokens;
    seq.num_computed_tokens = num_computed;
    seq.max_num_tokens = 1000;
    seq.num_blocks = BlocksFor(num_computed, kBlockSize);
    seq.num_private_blocks = seq.num_blocks;
    tenants_[tenant].num_held_blocks += seq.num_blocks;
    running_.push_back(seq);
    return running_.back();
  }

  PromptShares& Begin(const FairPassOptions& options = {}) {
    options_ = options;
    for (size_t idx = 0; idx < tenants_.size(); ++idx) {
      tenants_[idx].waiting = waiting_[idx];
    }
    view_.running = running_;
    view_.tenants = tenants_;
    decision_.Clear();
    kept_ = std::make_unique<KeptGroups>(view_, &decision_);
    shares_ = std::make_unique<PromptShares>(view_, options_, kept_.get(),
                                             &decision_);
    return *shares_;
  }

  // All of a pass, when nobody takes anything back.
  void Share(const FairPassOptions& options = {}) {
    PromptShares& shares = Begin(options);
    shares.Share(/*reclaimer=*/-1, /*may_admit=*/true);
    shares.Explain(/*may_admit=*/true);
  }

  // Tokens of the tenant's admissions, by waiting_idx.
  std::map<int, int> Admitted(int tenant) const {
    std::map<int, int> tokens;
    for (const Admission& admission : decision_.admissions) {
      if (admission.tenant_idx != tenant) continue;
      tokens[admission.waiting_idx] += admission.num_tokens;
    }
    return tokens;
  }

  WaitDetail WhyOf(int tenant, int waiting_idx) const {
    for (const Blocked& blocked : decision_.blocked) {
      if (blocked.tenant_idx == tenant && blocked.waiting_idx == waiting_idx) {
        return blocked.why;
      }
    }
    ADD_FAILURE() << "nothing is said of " << tenant << "'s " << waiting_idx;
    return {};
  }

  std::vector<std::vector<WaitingGroup>> waiting_;  // [tenants]
  std::vector<TenantView> tenants_;
  std::vector<RunningSequence> running_;
  FairPassOptions options_;
  View view_;
  Decision decision_;
  std::unique_ptr<KeptGroups> kept_;
  std::unique_ptr<PromptShares> shares_;
};

using Tokens = std::map<int, int>;

TEST_F(PromptSharesTest, APartIsABlockIfASixteenthIsLess) {
  SetTenants(2);
  view_.max_num_batched_tokens = 6;
  Wait(0, 1, 6);
  Wait(1, 2, 6);
  Share();
  EXPECT_EQ(Admitted(0), (Tokens{{0, 4}}));
  EXPECT_EQ(Admitted(1), (Tokens{{0, 2}}));
}

TEST_F(PromptSharesTest, PartsAreChargedSoThatCountersMeet) {
  SetTenants(2);
  tenants_[0].counter = 40;  // less than a step ahead
  Wait(0, 1, 64);
  Wait(1, 2, 64);
  Share();
  EXPECT_EQ(Admitted(0), (Tokens{{0, 12}}));
  EXPECT_EQ(Admitted(1), (Tokens{{0, 52}}));
}

TEST_F(PromptSharesTest, ATenantsPromptsFollowEachOther) {
  SetTenants(1);
  Prompt(0, 1, 30, 20);
  Prompt(0, 2, 90, 8);
  Prompt(0, 3, 90, 0);
  Share();
  EXPECT_EQ(decision_.slices, (std::vector<ScheduledSlice>{{0, 10}, {1, 54}}));
  // Blocks up to the 30th token of one and the 62nd of the other, once each
  // although they were given in parts.
  EXPECT_EQ(kept_->num_free(), 100 - (8 - 5) - (16 - 2));
  EXPECT_EQ(kept_->num_held(0), 8 + 16);
}

TEST_F(PromptSharesTest, APromptThatLacksBlocksIsCutAndTheNextMayGoOn) {
  SetTenants(1);
  view_.num_free_blocks = 1;
  Prompt(0, 1, 30, 8);   // its blocks are full: 4 tokens in the free one
  Prompt(0, 2, 30, 0);   // wants another
  Prompt(0, 3, 30, 10);  // has room for two
  Share();
  EXPECT_EQ(decision_.slices, (std::vector<ScheduledSlice>{{0, 4}, {2, 2}}));
  EXPECT_EQ(kept_->num_free(), 0);
}

TEST_F(PromptSharesTest, WhoAwaitsAResultOrWasPreemptedGetsNothing) {
  SetTenants(1);
  Prompt(0, 1, 30, 8).awaits_result = true;
  Prompt(0, 2, 30, 8);
  PromptShares& shares = Begin();
  kept_->Preempt(1, /*for_arrival=*/0);
  shares.Share(-1, /*may_admit=*/true);
  EXPECT_TRUE(decision_.slices.empty());
}

TEST_F(PromptSharesTest, WhereNobodyMayComeInPromptsThatRunGoOn) {
  SetTenants(2);
  Prompt(0, 1, 30, 8);
  Wait(1, 2, 10);
  PromptShares& shares = Begin();
  shares.Share(-1, /*may_admit=*/false);
  shares.Explain(/*may_admit=*/false);
  EXPECT_EQ(decision_.slices, (std::vector<ScheduledSlice>{{0, 22}}));
  EXPECT_TRUE(decision_.admissions.empty());
  EXPECT_EQ(WhyOf(1, 0).reason, WaitReason::kNeedsBlocks);
  EXPECT_EQ(WhyOf(1, 0).num_needed, 3);
}

TEST_F(PromptSharesTest, TheWatermarkIsForWhoeverComesToOthers) {
  SetTenants(1);
  view_.num_free_blocks = 10;
  view_.watermark_blocks = 2;
  Wait(0, 1, 40);  // all ten
  Share();
  EXPECT_EQ(Admitted(0), (Tokens{{0, 40}}));  // nobody else is there
  Prompt(0, 2, 8, 4).num_prefill_tokens = 4;  // a decode beside it
  Share();
  EXPECT_TRUE(decision_.admissions.empty());
  EXPECT_EQ(WhyOf(0, 0).reason, WaitReason::kNeedsBlocks);
  EXPECT_EQ(WhyOf(0, 0).num_needed, 10);
  EXPECT_EQ(WhyOf(0, 0).num_available, 8);
}

TEST_F(PromptSharesTest, ABlockGivenToOneIsNotThereForAnother) {
  SetTenants(2);
  view_.num_free_blocks = 10;
  Wait(0, 1, 24);
  Wait(1, 2, 20);
  Share();
  EXPECT_EQ(Admitted(0), (Tokens{{0, 24}}));
  EXPECT_TRUE(Admitted(1).empty());
  EXPECT_EQ(WhyOf(1, 0).num_available, 4);
}

// Others would take each slot as it comes free.
TEST_F(PromptSharesTest, WhoLacksSlotsLetsNobodyElseIn) {
  SetTenants(2);
  view_.num_free_slots = 2;
  Wait(0, 1, 8).num_seqs = 3;
  Wait(1, 2, 8);
  Share();
  EXPECT_TRUE(decision_.admissions.empty());
  EXPECT_EQ(WhyOf(0, 0).reason, WaitReason::kNoSlot);
  EXPECT_EQ(WhyOf(0, 0).num_needed, 3);
  EXPECT_EQ(WhyOf(0, 0).num_available, 2);
}

TEST_F(PromptSharesTest, SlotsAreCountedAsTheyAreGiven) {
  SetTenants(2);
  view_.num_free_slots = 3;
  Wait(0, 1, 4).num_seqs = 2;
  Wait(1, 2, 4).num_seqs = 2;
  Share();
  EXPECT_EQ(Admitted(0).size(), 1);
  EXPECT_TRUE(Admitted(1).empty());
  EXPECT_EQ(WhyOf(1, 0).num_available, 1);
}

TEST_F(PromptSharesTest, AHeadThatDoesNotFitIsPassedByAWindowOfOthers) {
  SetTenants(1);
  view_.num_free_blocks = 4;
  Wait(0, 1, 40);
  Wait(0, 2, 40);
  Wait(0, 3, 40);
  Wait(0, 4, 8);
  Share({.bypass_window = 2});
  EXPECT_TRUE(decision_.admissions.empty());  // the third ended the search
  Share({.bypass_window = 3});
  EXPECT_EQ(Admitted(0), (Tokens{{3, 8}}));
  ASSERT_EQ(decision_.bypasses.size(), 1);
  EXPECT_EQ(decision_.bypasses[0].waiting_idx, 0);
  EXPECT_EQ(decision_.bypasses[0].num_others, 1);
}

TEST_F(PromptSharesTest, NobodyPassesAPreemptedHeadOrOnePassedTooOften) {
  for (const bool preempted : {false, true}) {
    waiting_.clear();
    tenants_.clear();
    SetTenants(2);
    view_.num_free_blocks = 4;
    WaitingGroup& head = Wait(0, 1, 40);
    head.preempted = preempted;
    head.num_bypasses = preempted ? 0 : 8;
    Wait(0, 2, 8);
    Wait(1, 3, 8);
    Share({.max_bypasses = 8});
    EXPECT_TRUE(decision_.admissions.empty());
    const WaitDetail why = WhyOf(1, 0);
    EXPECT_EQ(why.reason, WaitReason::kHeadReserved);
    EXPECT_EQ(why.num_needed, 10);
    EXPECT_EQ(why.other_arrival, 1);
  }
}

TEST_F(PromptSharesTest, TheLastBypassIsTheOneThatReachesTheBound) {
  SetTenants(1);
  view_.num_free_blocks = 8;
  Wait(0, 1, 40).num_bypasses = 6;
  for (int i = 2; i < 6; ++i) Wait(0, i, 4);
  Share({.max_bypasses = 8});
  EXPECT_EQ(Admitted(0), (Tokens{{1, 4}, {2, 4}}));
  ASSERT_EQ(decision_.bypasses.size(), 1);
  EXPECT_EQ(decision_.bypasses[0].num_others, 2);
  EXPECT_EQ(WhyOf(0, 3).reason, WaitReason::kHeadReserved);
}

TEST_F(PromptSharesTest, AQuotaIsWhatIsLeftOfTheMaximum) {
  SetTenants(2);
  tenants_[0].max_num_blocks = 10;
  Prompt(0, 1, 24, 24).num_prefill_tokens = 0;  // holds six
  Wait(0, 2, 20);
  Wait(1, 3, 20);
  Share();
  EXPECT_TRUE(Admitted(0).empty());
  EXPECT_EQ(Admitted(1), (Tokens{{0, 20}}));
  EXPECT_EQ(WhyOf(0, 0).reason, WaitReason::kTenantQuota);
  EXPECT_EQ(WhyOf(0, 0).num_needed, 5);
  EXPECT_EQ(WhyOf(0, 0).num_available, 4);
}

TEST_F(PromptSharesTest, WhoGetsNothingIsToldWhetherOthersDid) {
  SetTenants(2);
  view_.max_num_batched_tokens = 32;
  tenants_[0].counter = 32;
  Wait(0, 1, 100);
  Wait(1, 2, 100);
  Share();
  EXPECT_EQ(Admitted(1), (Tokens{{0, 32}}));
  EXPECT_EQ(WhyOf(0, 0).reason, WaitReason::kTenantTurn);
  // Its own tenant has been served.
  waiting_[0].clear();
  waiting_[1].clear();
  Wait(0, 1, 64);
  Wait(0, 2, 50);
  SetTenants(2);
  Share();
  EXPECT_EQ(Admitted(0), (Tokens{{0, 64}}));
  EXPECT_EQ(WhyOf(0, 1).reason, WaitReason::kTokenBudget);
  EXPECT_EQ(WhyOf(0, 1).num_needed, 50);
}

TEST_F(PromptSharesTest, ABoundedNumberOfWaitsIsExplained) {
  SetTenants(100);
  view_.num_free_blocks = 0;
  for (int tenant = 0; tenant < 100; ++tenant) Wait(tenant, tenant + 1, 8);
  Share();
  EXPECT_EQ(decision_.blocked.size(), 64);
}

// Tenant 1 is within its guarantee of 8; tenant 0 has borrowed all there is.
class ReclaimTest : public PromptSharesTest {
 protected:
  ReclaimTest() {
    SetTenants(3);
    view_.has_quotas = true;
    view_.num_free_blocks = 1;
    tenants_[1].num_guaranteed_blocks = 8;
    tenants_[2].num_guaranteed_blocks = 8;
    Prompt(0, 1, 20, 20).num_prefill_tokens = 0;
    Prompt(0, 2, 20, 20).num_prefill_tokens = 0;
  }
};

TEST_F(ReclaimTest, TheLastBorrowersGoUntilTheHeadFits) {
  view_.watermark_blocks = 2;  // which the reclaimer need not leave
  Wait(1, 3, 20);
  EXPECT_EQ(Begin().Reclaim(), 1);
  EXPECT_EQ(decision_.preempted, (std::vector<int32_t>{1}));
  EXPECT_EQ(decision_.preempted_for, (std::vector<int64_t>{3}));
  shares_->Share(/*reclaimer=*/1, /*may_admit=*/true);
  EXPECT_EQ(Admitted(1), (Tokens{{0, 20}}));
}

TEST_F(ReclaimTest, TheLeastServedOfThoseWithinTheirGuaranteesIsFirst) {
  Wait(1, 3, 20);
  Wait(2, 4, 20);
  tenants_[1].counter = 5;
  EXPECT_EQ(Begin().Reclaim(), 2);
  tenants_[2].counter = 6;
  EXPECT_EQ(Begin().Reclaim(), 1);
  // Beyond its guarantee, with what it would hold.
  tenants_[1].num_guaranteed_blocks = 4;
  EXPECT_EQ(Begin().Reclaim(), 2);
}

TEST_F(ReclaimTest, NothingIsTakenBackForAHeadThatCouldNotComeIn) {
  WaitingGroup& head = Wait(1, 3, 20);
  const WaitingGroup as_it_was = head;
  head.ready = false;
  EXPECT_EQ(Begin().Reclaim(), -1);
  head = as_it_was;
  head.num_seqs = 11;  // slots
  EXPECT_EQ(Begin().Reclaim(), -1);
  head = as_it_was;
  head.num_wanted_blocks = 12;  // more than all borrowers have
  tenants_[1].num_guaranteed_blocks = 12;
  EXPECT_EQ(Begin().Reclaim(), -1);
  head = as_it_was;
  head.num_wanted_blocks = 1;  // it fits without
  EXPECT_EQ(Begin().Reclaim(), -1);
  EXPECT_TRUE(decision_.preempted.empty());
  head = as_it_was;
  EXPECT_EQ(Begin().Reclaim(), 1);
}

TEST_F(ReclaimTest, NothingIsTakenBackWhileThePoolIsKeptForAnother) {
  Wait(1, 3, 20);
  Wait(0, 4, 400).num_bypasses = 8;
  EXPECT_EQ(Begin({.max_bypasses = 8}).Reclaim(), -1);
  EXPECT_EQ(Begin({.max_bypasses = 9}).Reclaim(), 1);
}

}  // namespace
}  // namespace quire
