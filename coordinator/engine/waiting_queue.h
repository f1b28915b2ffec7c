// SPDX-License-Identifier: Apache-2.0
//
// Groups that wait, in the order in which they are served, as one span that a
// scheduling policy can read in place.
#ifndef COORDINATOR_ENGINE_WAITING_QUEUE_H_
#define COORDINATOR_ENGINE_WAITING_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "coordinator/scheduler/policy.h"

namespace quire {

// Thread-compatible. Ordered by (rank, arrival). Taking from the head,
// adding at the tail and putting back near the head cost O(1) amortised; a
// removal in the middle moves the shorter side.
class WaitingQueue {
 public:
  // REQUIRES: no group of the same rank and arrival is in.
  void Insert(const WaitingGroup& group);

  // REQUIRES: it is in.
  void Erase(int64_t rank, int64_t arrival);

  // Null if it is not in. Valid until the next change.
  WaitingGroup* Find(int64_t rank, int64_t arrival);

  // Position 0 is the head. Valid until the next change.
  absl::Span<const WaitingGroup> groups() const {
    return absl::MakeConstSpan(groups_.data() + head_, size());
  }
  WaitingGroup& head() { return groups_[head_]; }
  WaitingGroup& at(size_t idx) { return groups_[head_ + idx]; }
  // Groups before it. REQUIRES: it is in.
  size_t Position(int64_t rank, int64_t arrival) const {
    return LowerBound(rank, arrival) - head_;
  }
  size_t size() const { return groups_.size() - head_; }
  bool empty() const { return size() == 0; }

 private:
  size_t LowerBound(int64_t rank, int64_t arrival) const;

  std::vector<WaitingGroup> groups_;  // [0, head_) is unused
  size_t head_ = 0;
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_WAITING_QUEUE_H_
