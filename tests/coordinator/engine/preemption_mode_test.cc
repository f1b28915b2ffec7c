// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/preemption_mode.h"

#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

struct Case {
  PreemptionMode mode;
  bool retains;
  int32_t num_free_host_blocks;
  PreemptionRates rates;
  PreemptionVictim victim;
  ParkMode expected;
};

TEST(PreemptionModeTest, EachVictimGoesTheFasterWay) {
  constexpr auto kSwap = PreemptionMode::kSwap;
  constexpr auto kRecompute = PreemptionMode::kRecompute;
  constexpr auto kAuto = PreemptionMode::kAuto;
  // 10 blocks out and in: 0.2 s. 160 tokens anew: 0.16 s or 0.32 s.
  const PreemptionVictim victim = {.num_blocks = 10, .num_tokens = 160};
  const PreemptionRates fast_gpu = {.swap_blocks = 100, .prefill_tokens = 1000};
  const PreemptionRates slow_gpu = {.swap_blocks = 100, .prefill_tokens = 500};
  // Most of its blocks are others' too, and stay.
  const PreemptionVictim sharer = {.num_blocks = 1, .num_tokens = 160};
  const std::vector<Case> cases = {
      {kSwap, true, 99, fast_gpu, victim, ParkMode::kSwap},
      {kSwap, true, 1, {}, victim, ParkMode::kSwap},
      {kSwap, true, 0, slow_gpu, victim, ParkMode::kRetain},
      {kSwap, false, 0, slow_gpu, victim, ParkMode::kDrop},
      {kRecompute, true, 99, slow_gpu, victim, ParkMode::kRetain},
      {kRecompute, false, 99, slow_gpu, victim, ParkMode::kDrop},
      {kAuto, true, 99, fast_gpu, victim, ParkMode::kRetain},
      {kAuto, false, 99, fast_gpu, victim, ParkMode::kDrop},
      {kAuto, true, 99, slow_gpu, victim, ParkMode::kSwap},
      {kAuto, false, 99, slow_gpu, victim, ParkMode::kSwap},
      {kAuto, true, 99, fast_gpu, sharer, ParkMode::kSwap},
      {kAuto, true, 0, slow_gpu, victim, ParkMode::kRetain},
      // Rates that nobody has measured.
      {kAuto, true, 99, {.prefill_tokens = 500}, victim, ParkMode::kRetain},
      {kAuto, true, 99, {.swap_blocks = 100}, victim, ParkMode::kRetain},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    EXPECT_EQ(ChooseParkMode(c.mode, c.retains, c.num_free_host_blocks, c.rates,
                             c.victim),
              c.expected)
        << "case " << i;
  }
}

TEST(PreemptionModeTest, NamesAreThoseOfTheFlag) {
  for (PreemptionMode mode : {PreemptionMode::kSwap, PreemptionMode::kRecompute,
                              PreemptionMode::kAuto}) {
    EXPECT_EQ(ParsePreemptionMode(PreemptionModeName(mode)).value(), mode);
  }
  EXPECT_EQ(ParsePreemptionMode("keep").status().message(),
            "--preemption_mode=keep: it may be swap or recompute or auto");
}

}  // namespace
}  // namespace quire
