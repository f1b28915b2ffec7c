// SPDX-License-Identifier: Apache-2.0
//
// Snapshots and the group that each must lead to.
#include "coordinator/routing/group_choice.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

// Of the times in the cases: 10,000 tokens/s are 100 us a token.
GroupLoad Ready() {
  GroupLoad load;
  load.is_ready = true;
  load.num_blocks = load.num_free_blocks = 1000;
  load.prefill_tokens_per_s = 10000;
  load.decode_step_us = 5000;
  return load;
}

struct Case {
  std::string name;
  std::vector<GroupLoad> groups;
  int32_t expected;
  int32_t num_prompt_tokens = 200;
  int32_t num_seqs = 1;
};

GroupLoad With(void (*change)(GroupLoad*)) {
  GroupLoad load = Ready();
  change(&load);
  return load;
}

RouteView ViewOf(const Case& c) {
  RouteView view;
  view.groups = c.groups;
  view.num_prompt_tokens = c.num_prompt_tokens;
  view.num_seqs = c.num_seqs;
  view.max_num_seqs = 64;
  view.max_num_batched_tokens = 1024;
  view.block_size = 16;
  view.mean_output_tokens = 100;
  return view;
}

class GroupChoiceTest : public testing::TestWithParam<Case> {};

TEST_P(GroupChoiceTest, StartsEarliest) {
  EXPECT_EQ(ChooseGroup(ViewOf(GetParam()), RoutingPolicy::kEarliestStart),
            GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    Snapshots, GroupChoiceTest,
    testing::Values(
        Case{"NobodyIsReady", {GroupLoad(), GroupLoad()}, -1},
        Case{"OneIsReady", {GroupLoad(), Ready(), GroupLoad()}, 1},
        Case{"EqualsAreTakenInOrder", {Ready(), Ready(), Ready()}, 0},
        Case{"AnIdleOneBeforeOneThatDecodes",
             {With([](GroupLoad* g) { g->num_decodes = 1; }), Ready()},
             1},
        Case{"TheShorterQueueOfPrompts",
             {With([](GroupLoad* g) { g->num_pending_tokens = 300; }),
              With([](GroupLoad* g) { g->num_pending_tokens = 299; })},
             1},
        Case{"CachedTokensAreWorkSaved",
             {Ready(), With([](GroupLoad* g) { g->num_cached_tokens = 16; })},
             1},
        // 160 tokens saved against 100 that wait.
        Case{"ACacheIsWorthAShortQueue",
             {Ready(), With([](GroupLoad* g) {
                g->num_cached_tokens = 160;
                g->num_pending_tokens = 100;
              })},
             1},
        Case{"ButNotALongOne",
             {Ready(), With([](GroupLoad* g) {
                g->num_cached_tokens = 160;
                g->num_pending_tokens = 170;
              })},
             0},
        // A decode's token costs as much as a prompt's, and a step is under
        // way: 50 tokens' time, and one for each of the 60.
        Case{"ACacheIsWorthABusyGroup",
             {Ready(), With([](GroupLoad* g) {
                g->num_cached_tokens = 160;
                g->num_decodes = 10;
              })},
             1},
        Case{"ButNotOneTooBusy",
             {Ready(), With([](GroupLoad* g) {
                g->num_cached_tokens = 100;
                g->num_decodes = 60;
              })},
             0},
        // All slots taken: a sequence's life, 100 steps, must pass.
        Case{"AGroupWithoutASlotWaits",
             {With([](GroupLoad* g) {
                g->num_cached_tokens = 150;
                g->num_decodes = 64;
              }),
              With([](GroupLoad* g) { g->num_decodes = 63; })},
             1},
        Case{"SeveralSequencesNeedSeveralSlots",
             {With([](GroupLoad* g) { g->num_decodes = 62; }),
              With([](GroupLoad* g) {
                g->num_decodes = 60;
                g->num_pending_tokens = 10;
              })},
             1,
             200,
             /*num_seqs=*/4},
        Case{"AGroupWithoutBlocksWaits",
             {With([](GroupLoad* g) { g->num_free_blocks = 0; }),
              With([](GroupLoad* g) { g->num_pending_tokens = 20; })},
             1},
        Case{"APoolThatIsTooSmallIsForNobody",
             {With([](GroupLoad* g) { g->fits = false; }),
              With([](GroupLoad* g) { g->num_decodes = 60; })},
             1},
        Case{"UnlessAllAre",
             {GroupLoad(), With([](GroupLoad* g) {
                g->fits = false;
                g->num_decodes = 1;
              }),
              With([](GroupLoad* g) { g->fits = false; })},
             2},
        // Nothing measured: the counts alone decide.
        Case{"UnmeasuredGroupsGoByTheirQueues",
             {With([](GroupLoad* g) {
                g->prefill_tokens_per_s = g->decode_step_us = 0;
                g->num_pending_tokens = 30;
              }),
              With([](GroupLoad* g) {
                g->prefill_tokens_per_s = g->decode_step_us = 0;
                g->num_pending_tokens = 20;
              })},
             1},
        // A slow measurement is noise: the queue tells who is slow.
        Case{"MeasurementsAreTheFastestGroups",
             {With([](GroupLoad* g) { g->prefill_tokens_per_s = 5000; }),
              With([](GroupLoad* g) { g->num_pending_tokens = 1; })},
             0}),
    [](const auto& info) { return info.param.name; });

TEST(GroupChoiceTest, RoundRobinTakesWhoWasSentTheFewest) {
  Case c{"", {Ready(), Ready(), Ready()}, 0};
  c.groups[0].num_routed = 2;
  c.groups[1].num_routed = 1;
  c.groups[2].num_routed = 1;
  c.groups[2].num_cached_tokens = 100;
  EXPECT_EQ(ChooseGroup(ViewOf(c), RoutingPolicy::kRoundRobin), 1);
  c.groups[1].is_ready = false;
  EXPECT_EQ(ChooseGroup(ViewOf(c), RoutingPolicy::kRoundRobin), 2);
}

TEST(GroupChoiceTest, TheEstimateAddsUpItsParts) {
  Case c{"", {Ready()}, 0};
  // The prompt alone: 200 tokens of 100 us.
  EXPECT_DOUBLE_EQ(EstimateStart(ViewOf(c), 0), 20000);
  // Decodes: a step of 5,000 us + 512 x 100 us, and half of each budget.
  c.groups[0].num_decodes = 512;
  RouteView view = ViewOf(c);
  view.max_num_seqs = 1000;
  EXPECT_DOUBLE_EQ(EstimateStart(view, 0), 56200 + 40000);
}

// A skewed load: half of all prompts have one prefix, which one group has.
TEST(GroupChoiceTest, AHotPrefixDoesNotDrownItsGroup) {
  Case c{"", {Ready(), Ready(), Ready(), Ready()}, 0};
  std::vector<int> num_routed(4);
  for (int i = 0; i < 200; ++i) {
    c.groups[2].num_cached_tokens = i % 2 == 0 ? 160 : 0;
    RouteView view = ViewOf(c);
    view.max_num_seqs = 1000;
    const int32_t chosen = ChooseGroup(view, RoutingPolicy::kEarliestStart);
    ++num_routed[chosen];
    c.groups[chosen].num_pending_seqs += 1;
    c.groups[chosen].num_pending_tokens +=
        200 - c.groups[chosen].num_cached_tokens;
  }
  // It gets more requests than the others, as its own are shorter, and as much
  // work: none has two prompts more than another.
  for (int g : {0, 1, 3}) {
    EXPECT_GT(num_routed[2], num_routed[g]) << g;
    EXPECT_NEAR(c.groups[g].num_pending_tokens, c.groups[2].num_pending_tokens,
                400)
        << g;
  }
}

}  // namespace
}  // namespace quire
