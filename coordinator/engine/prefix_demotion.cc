// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/prefix_demotion.h"

#include "absl/strings/str_cat.h"

namespace quire {

absl::StatusOr<PrefixDemotion> ParsePrefixDemotion(const std::string& name) {
  if (name == "auto") return PrefixDemotion::kAuto;
  if (name == "always") return PrefixDemotion::kAlways;
  if (name == "never") return PrefixDemotion::kNever;
  return absl::InvalidArgumentError(absl::StrCat(
      "--demote_prefixes=", name, ": it may be auto or always or never"));
}

const char* PrefixDemotionName(PrefixDemotion demotion) {
  switch (demotion) {
    case PrefixDemotion::kAuto:
      return "auto";
    case PrefixDemotion::kAlways:
      return "always";
    case PrefixDemotion::kNever:
      return "never";
  }
  return "";
}

bool DemotesPrefixes(PrefixDemotion demotion, const PreemptionRates& rates,
                     int32_t block_size) {
  if (demotion != PrefixDemotion::kAuto) {
    return demotion == PrefixDemotion::kAlways;
  }
  if (rates.swap_blocks <= 0 || rates.prefill_tokens <= 0) return false;
  const double move_seconds = 2.0 / rates.swap_blocks;
  return kDemotionGain * move_seconds < block_size / rates.prefill_tokens;
}

}  // namespace quire
