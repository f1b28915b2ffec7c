// SPDX-License-Identifier: Apache-2.0
//
// Priority and ageing as one number per group. With an ageing period P, a group
// of priority p that came at time a has after a wait the effective priority
// p - (now - a) / P: one level better for each period. Of two groups the order
// by that never changes, because it is the order of p * P + a: the rank. So
// groups are sorted once, by rank and then by arrival, and a low priority is
// passed only by those who come within P of it for each level between them.
// Without ageing the rank is the priority.
#ifndef COORDINATOR_ENGINE_SERVICE_ORDER_H_
#define COORDINATOR_ENGINE_SERVICE_ORDER_H_

#include <cstdint>

#include "absl/time/time.h"

namespace quire {

// The longest period: the product with any priority stays in 64 bits.
inline constexpr absl::Duration kMaxPriorityAgeing = absl::Minutes(30);

class ServiceOrder {
 public:
  // REQUIRES: 0 (no ageing) or 1 ms <= ageing <= kMaxPriorityAgeing.
  explicit ServiceOrder(absl::Duration ageing)
      : per_level_(absl::ToInt64Microseconds(ageing)) {}

  int64_t Rank(int32_t priority, absl::Time arrival) const {
    return per_level_ == 0 ? priority
                           : priority * per_level_ + Microseconds(arrival);
  }

  // What a group of priority 0 that comes at `now` would get.
  int64_t RankNow(absl::Time now) const {
    return per_level_ == 0 ? 0 : Microseconds(now);
  }
  // 0: no ageing.
  int64_t rank_per_level() const { return per_level_; }

 private:
  static int64_t Microseconds(absl::Time time) {
    return absl::ToUnixMicros(time);
  }

  const int64_t per_level_;
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_SERVICE_ORDER_H_
