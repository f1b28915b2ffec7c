// SPDX-License-Identifier: Apache-2.0
//
// Whether cached prefixes whose blocks are needed move to host memory, to come
// back by a copy when they are asked for, or are lost and computed anew.
#ifndef COORDINATOR_ENGINE_PREFIX_DEMOTION_H_
#define COORDINATOR_ENGINE_PREFIX_DEMOTION_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/engine/preemption_mode.h"

namespace quire {

enum class PrefixDemotion { kAuto, kAlways, kNever };

// "auto", "always" or "never"; InvalidArgument names the flag otherwise.
absl::StatusOr<PrefixDemotion> ParsePrefixDemotion(const std::string& name);

// As ParsePrefixDemotion takes it.
const char* PrefixDemotionName(PrefixDemotion demotion);

// How many times faster than computing a block's tokens its two moves must be
// for kAuto. Every evicted block pays to move out, but only some are asked for
// again and save anything: with moves of equal cost c, and 2c * kDemotionGain
// to compute the block, moving out pays off once more than 1 in
// 2 * kDemotionGain - 1 comes back: here one in seven.
inline constexpr double kDemotionGain = 4;

// Whether to demote, with blocks of `block_size` tokens. kAuto does not while a
// rate is unknown.
bool DemotesPrefixes(PrefixDemotion demotion, const PreemptionRates& rates,
                     int32_t block_size);

}  // namespace quire

#endif  // COORDINATOR_ENGINE_PREFIX_DEMOTION_H_
