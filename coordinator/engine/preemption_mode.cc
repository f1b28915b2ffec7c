// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/preemption_mode.h"

#include "absl/strings/str_cat.h"

namespace quire {

absl::StatusOr<PreemptionMode> ParsePreemptionMode(const std::string& name) {
  if (name == "swap") return PreemptionMode::kSwap;
  if (name == "recompute") return PreemptionMode::kRecompute;
  if (name == "auto") return PreemptionMode::kAuto;
  return absl::InvalidArgumentError(absl::StrCat(
      "--preemption_mode=", name, ": it may be swap or recompute or auto"));
}

const char* PreemptionModeName(PreemptionMode mode) {
  switch (mode) {
    case PreemptionMode::kSwap:
      return "swap";
    case PreemptionMode::kRecompute:
      return "recompute";
    case PreemptionMode::kAuto:
      return "auto";
  }
  return "";
}

bool IsSwapFaster(const PreemptionRates& rates,
                  const PreemptionVictim& victim) {
  if (rates.swap_blocks <= 0 || rates.prefill_tokens <= 0) return false;
  const double swap_seconds = 2.0 * victim.num_blocks / rates.swap_blocks;
  return swap_seconds < victim.num_tokens / rates.prefill_tokens;
}

ParkMode ChooseParkMode(PreemptionMode mode, bool retains,
                        int32_t num_host_blocks, const PreemptionRates& rates,
                        const PreemptionVictim& victim) {
  const bool swaps =
      num_host_blocks > 0 &&
      (mode == PreemptionMode::kSwap ||
       (mode == PreemptionMode::kAuto && IsSwapFaster(rates, victim)));
  if (swaps) return ParkMode::kSwap;
  return retains ? ParkMode::kRetain : ParkMode::kDrop;
}

}  // namespace quire
