// SPDX-License-Identifier: Apache-2.0
//
// Whatever fits alone finishes, with the tokens that it has alone, under any
// load, in any mode and whatever happens meanwhile.
#include "tests/coordinator/engine/random_load.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr uint64_t kNumSeeds = 60;

void ExpectMuch(const RandomLoadCounts& counts) {
  EXPECT_GT(counts.num_preemptions, 80);
  EXPECT_GT(counts.num_swaps, 50);
  EXPECT_GT(counts.num_cache_hit_tokens, 500);
}

TEST(RandomLoadTest, Groups) {
  ExpectMuch(ServeRandomLoads({.has_stops = true}, kNumSeeds));
}

TEST(RandomLoadTest, GroupsWithAWindow) {
  ExpectMuch(ServeRandomLoads(
      {.max_model_len = 160, .has_window = true, .num_more_requests = 20},
      kNumSeeds));
}

TEST(RandomLoadTest, GroupsAndSearches) {
  ExpectMuch(
      ServeRandomLoads({.has_stops = true, .has_beams = true}, kNumSeeds));
}

TEST(RandomLoadTest, GroupsAndSearchesThatAreDisturbed) {
  const RandomLoadCounts counts = ServeRandomLoads(
      {.has_stops = true, .has_beams = true, .is_disturbed = true}, kNumSeeds);
  ExpectMuch(counts);
  EXPECT_GT(counts.num_resyncs, 20);
  EXPECT_GT(counts.num_cut_short, 300);
}

TEST(RandomLoadTest, GroupsAndSearchesWithAWindowThatAreDisturbed) {
  const RandomLoadCounts counts = ServeRandomLoads({.max_model_len = 160,
                                                    .has_window = true,
                                                    .num_more_requests = 20,
                                                    .has_stops = true,
                                                    .has_beams = true,
                                                    .is_disturbed = true},
                                                   kNumSeeds);
  ExpectMuch(counts);
  EXPECT_GT(counts.num_resyncs, 20);
  EXPECT_GT(counts.num_cut_short, 300);
}

TEST(RandomLoadTest, TenantsThatAreDisturbed) {
  const RandomLoadCounts counts = ServeRandomLoads({.has_stops = true,
                                                    .has_beams = true,
                                                    .has_tenants = true,
                                                    .is_disturbed = true},
                                                   kNumSeeds);
  EXPECT_GT(counts.num_preemptions, 80);
}

TEST(RandomLoadTest, RowsOfVirtualMemoryThatAreDisturbed) {
  const RandomLoadCounts counts = ServeRandomLoads({.has_stops = true,
                                                    .has_tenants = true,
                                                    .has_rows = true,
                                                    .is_disturbed = true},
                                                   kNumSeeds);
  EXPECT_GT(counts.num_preemptions, 80);
}

}  // namespace
}  // namespace quire
