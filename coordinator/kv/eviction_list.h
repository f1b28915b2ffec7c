// SPDX-License-Identifier: Apache-2.0
//
// Blocks that may be taken, in the order in which they shall be: the one that
// joined first goes first.
#ifndef COORDINATOR_KV_EVICTION_LIST_H_
#define COORDINATOR_KV_EVICTION_LIST_H_

#include <cstdint>
#include <vector>

#include "glog/logging.h"

namespace quire {

// A doubly linked list through one array. Every call is O(1) and allocates
// nothing. `Id` is a strong id of [0, num_ids). Thread-compatible.
template <typename Id>
class EvictionList {
 public:
  explicit EvictionList(int32_t num_ids) : links_(num_ids + 1) {
    links_[num_ids] = {num_ids, num_ids};
  }

  // Joins as the last to go. REQUIRES: not contained.
  void PushBack(Id id) {
    DCHECK(!contains(id)) << "block " << id << " is in the list already";
    Link& end = links_[sentinel()];
    links_[id.value()] = {end.previous, sentinel()};
    links_[end.previous].next = id.value();
    end.previous = id.value();
    ++size_;
  }

  // REQUIRES: contained.
  void Remove(Id id) {
    DCHECK(contains(id)) << "block " << id << " is not in the list";
    Link& link = links_[id.value()];
    links_[link.previous].next = link.next;
    links_[link.next].previous = link.previous;
    link = {};
    --size_;
  }

  // The next to go. REQUIRES: size() > 0.
  Id front() const {
    DCHECK_GT(size_, 0);
    return Id(links_[sentinel()].next);
  }

  bool contains(Id id) const { return links_[id.value()].next != kNone; }
  int32_t size() const { return size_; }

 private:
  static constexpr int32_t kNone = -1;

  struct Link {
    int32_t previous = kNone;
    int32_t next = kNone;
  };

  int32_t sentinel() const { return static_cast<int32_t>(links_.size()) - 1; }

  std::vector<Link> links_;  // [num_ids + 1]; the last is the sentinel
  int32_t size_ = 0;
};

}  // namespace quire

#endif  // COORDINATOR_KV_EVICTION_LIST_H_
