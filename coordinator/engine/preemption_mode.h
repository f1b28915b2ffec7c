// SPDX-License-Identifier: Apache-2.0
//
// How a preempted group's blocks are taken back (PagedAttention, SOSP'23,
// section 4.5): moved to host memory and brought back, or given up and computed
// anew, whichever is faster for this victim on this machine.
#ifndef COORDINATOR_ENGINE_PREEMPTION_MODE_H_
#define COORDINATOR_ENGINE_PREEMPTION_MODE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/kv/kv_manager.h"

namespace quire {

enum class PreemptionMode { kSwap, kRecompute, kAuto };

// "swap", "recompute" or "auto"; InvalidArgument names the flag otherwise.
absl::StatusOr<PreemptionMode> ParsePreemptionMode(const std::string& name);

// As ParsePreemptionMode takes it.
const char* PreemptionModeName(PreemptionMode mode);

// What the machine does in a second. 0: unknown.
struct PreemptionRates {
  double swap_blocks = 0;     // one way, the slower
  double prefill_tokens = 0;  // in a full step
};

// What taking back a group's blocks would cost.
struct PreemptionVictim {
  int32_t num_blocks = 0;  // to move out, and in again
  int32_t num_tokens = 0;  // to compute anew
};

// Whether moving the victim's blocks both ways takes less time than computing
// its tokens anew. False while a rate is unknown.
bool IsSwapFaster(const PreemptionRates& rates, const PreemptionVictim& victim);

// `retains`: contents may stay in their blocks until those are needed, as
// cached prefixes do. `num_host_blocks` are free, or hold only prefixes, which
// make room: without any, nothing is swapped.
ParkMode ChooseParkMode(PreemptionMode mode, bool retains,
                        int32_t num_host_blocks, const PreemptionRates& rates,
                        const PreemptionVictim& victim);

}  // namespace quire

#endif  // COORDINATOR_ENGINE_PREEMPTION_MODE_H_
