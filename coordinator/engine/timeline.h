// SPDX-License-Identifier: Apache-2.0
//
// Why a request has waited, as plain data.
#ifndef COORDINATOR_ENGINE_TIMELINE_H_
#define COORDINATOR_ENGINE_TIMELINE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/scheduler/wait_reason.h"

namespace quire {

// By reason.
using WaitTotals = std::array<absl::Duration, kNumWaitReasons>;

struct WaitInterval {
  absl::Time from;
  absl::Time to;      // not included
  WaitDetail why;     // with the numbers of its beginning
  std::string other;  // request id of why.other_arrival, if it is known
};

enum class TimelineState { kWaiting, kRunning, kEnded };

// What can be said of a request at a moment.
struct Timeline {
  std::string request_id;
  TimelineState state = TimelineState::kWaiting;
  absl::Time arrival;
  absl::Time end;  // of the request if it has ended, else the moment
  // The last kMaxWaitIntervals of them, oldest first; one that lasts ends at
  // `end`. Waiting before those is in the totals only.
  std::vector<WaitInterval> intervals;
  absl::Duration unlisted;  // how much that is
  WaitTotals totals = {};   // of the whole life
  // What those before it waited for while it was kBehind; adds up to that.
  WaitTotals behind_causes = {};
  int32_t num_preemptions = 0;

  absl::Duration waited() const {
    absl::Duration sum;
    for (const absl::Duration part : totals) sum += part;
    return sum;
  }
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_TIMELINE_H_
