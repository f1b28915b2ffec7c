// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/waiting_queue.h"

#include <algorithm>
#include <tuple>

#include "glog/logging.h"

namespace quire {
namespace {

// Unused entries at the front worth a move of the rest.
constexpr size_t kMinUnused = 64;

bool Is(const WaitingGroup& group, int64_t rank, int64_t arrival) {
  return group.rank == rank && group.arrival == arrival;
}

}  // namespace

size_t WaitingQueue::LowerBound(int64_t rank, int64_t arrival) const {
  const auto it = std::lower_bound(
      groups_.begin() + head_, groups_.end(), std::tie(rank, arrival),
      [](const WaitingGroup& group, const auto& key) {
        return std::tie(group.rank, group.arrival) < key;
      });
  return it - groups_.begin();
}

void WaitingQueue::Insert(const WaitingGroup& group) {
  const size_t idx = LowerBound(group.rank, group.arrival);
  CHECK(idx == groups_.size() ||
        !Is(groups_[idx], group.rank, group.arrival));
  if (head_ > 0 && idx - head_ < groups_.size() - idx) {
    std::move(groups_.begin() + head_, groups_.begin() + idx,
              groups_.begin() + head_ - 1);
    --head_;
    groups_[idx - 1] = group;
  } else {
    groups_.insert(groups_.begin() + idx, group);
  }
}

void WaitingQueue::Erase(int64_t rank, int64_t arrival) {
  const size_t idx = LowerBound(rank, arrival);
  CHECK(idx < groups_.size() && Is(groups_[idx], rank, arrival));
  if (idx - head_ < groups_.size() - idx) {
    std::move_backward(groups_.begin() + head_, groups_.begin() + idx,
                       groups_.begin() + idx + 1);
    ++head_;
  } else {
    groups_.erase(groups_.begin() + idx);
  }
  if (head_ >= kMinUnused && head_ >= groups_.size() / 2) {
    groups_.erase(groups_.begin(), groups_.begin() + head_);
    head_ = 0;
  }
}

WaitingGroup* WaitingQueue::Find(int64_t rank, int64_t arrival) {
  const size_t idx = LowerBound(rank, arrival);
  if (idx == groups_.size() || !Is(groups_[idx], rank, arrival)) {
    return nullptr;
  }
  return &groups_[idx];
}

}  // namespace quire
