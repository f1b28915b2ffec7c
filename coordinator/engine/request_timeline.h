// SPDX-License-Identifier: Apache-2.0
//
// Why each request waited and for how long: intervals [from, to), each with a
// typed reason and its numbers, from arrival to the first step and from each
// preemption to the step that ends it. They touch, so they add up to the time
// that the request waited, to the nanosecond.
//
// Only groups that a policy looked at have a reason of their own. All behind
// them share one state per tenant, which costs a step nothing for each: how
// long that state has had which cause is kept as running totals, and a group's
// part is their difference between when it began to be behind and when it is
// looked at.
#ifndef COORDINATOR_ENGINE_REQUEST_TIMELINE_H_
#define COORDINATOR_ENGINE_REQUEST_TIMELINE_H_

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/engine/timeline.h"
#include "coordinator/scheduler/wait_reason.h"

namespace quire {

inline constexpr int32_t kMaxWaitIntervals = 32;
inline constexpr int32_t kMaxEndedTimelines = 1024;

// Engine thread only. Groups go by their arrival number. A change of reason
// costs two look-ups and allocates at most while the list grows to its bound.
class RequestTimelines {
 public:
  // It has arrived and waits for `reason`.
  void Begin(int64_t arrival, const std::string& request_id, int32_t tenant_idx,
             WaitReason reason, absl::Time now);
  // It ran, and waits.
  void Interrupt(int64_t arrival, const WaitDetail& why, absl::Time now);
  // It waits, for this reason now; nothing happens if that is the one it has.
  void Waits(int64_t arrival, const WaitDetail& why, absl::Time now);
  // It waits behind others, `num_ahead` of them.
  void WaitsBehind(int64_t arrival, int32_t num_ahead, absl::Time now);
  void Run(int64_t arrival, absl::Time now);
  // Kept as long as it is among the last kMaxEndedTimelines.
  void End(int64_t arrival, absl::Time now);
  // It goes on elsewhere: forgets it. REQUIRES: it waits.
  Timeline Take(int64_t arrival, absl::Time now);
  // Goes on with what was taken elsewhere; it waits for `reason` since then.
  void Resume(int64_t arrival, Timeline timeline, int32_t tenant_idx,
              WaitReason reason);
  // Everyone who waits does so for this reason.
  void AllWait(WaitReason reason, absl::Time now);

  // What those at the head of the tenant's queue wait for from now on, and so
  // all behind them.
  void SetBehindCause(int32_t tenant_idx, WaitReason cause, absl::Time now);

  bool is_waiting(int64_t arrival) const;
  bool is_behind(int64_t arrival) const;

  // Groups that have begun to wait since the last call, in no order; some may
  // run or be gone.
  std::vector<int64_t> TakeUnexplained() {
    std::vector<int64_t> taken;
    taken.swap(unexplained_);
    return taken;
  }
  // Gives the memory of TakeUnexplained back.
  void Recycle(std::vector<int64_t> taken);

  // The running request of this id, or the one of it that ended last. NotFound
  // if it is not remembered.
  absl::StatusOr<Timeline> Find(const std::string& request_id,
                                absl::Time now) const;

  // By reason, of intervals that have ended.
  const WaitTotals& totals() const { return totals_; }

 private:
  struct Life {
    Timeline timeline;
    int32_t tenant_idx = 0;
    // Of timeline.intervals.back(), while it waits.
    bool is_waiting = false;
    // Who took its blocks, until it runs again; 0: nobody.
    int64_t preemptor = 0;
    std::string preemptor_id;
    // Behind: the tenant's totals when that began.
    WaitTotals behind_since = {};
  };
  struct BehindClock {
    WaitReason cause = WaitReason::kNextStep;
    absl::Time since;
    WaitTotals totals = {};
  };

  void Open(Life* life, const WaitDetail& why, absl::Time now);
  void Close(Life* life, absl::Time now);
  WaitTotals BehindTotals(int32_t tenant_idx, absl::Time now) const;
  void FillBehind(const Life& life, absl::Time now, Timeline* timeline) const;
  std::string IdOf(int64_t arrival) const;

  absl::flat_hash_map<int64_t, Life> live_;  // by arrival
  absl::flat_hash_map<std::string, int64_t> arrivals_;
  std::deque<Timeline> ended_;       // oldest first
  std::vector<BehindClock> behind_;  // by tenant
  std::vector<int64_t> unexplained_;
  WaitTotals totals_ = {};
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_REQUEST_TIMELINE_H_
