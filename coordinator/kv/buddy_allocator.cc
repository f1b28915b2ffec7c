// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/buddy_allocator.h"

#include <bit>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {
namespace {

// The smallest order whose ranges hold `num_blocks`.
int OrderFor(int32_t num_blocks) {
  CHECK_GT(num_blocks, 0);
  CHECK_LE(num_blocks, 1 << 30);
  return std::bit_width(static_cast<uint32_t>(num_blocks) - 1);
}

// The order of the largest range within `num_blocks`.
int OrderWithin(int32_t num_blocks) {
  CHECK_GT(num_blocks, 0);
  return std::bit_width(static_cast<uint32_t>(num_blocks)) - 1;
}

}  // namespace

int32_t BuddyAllocator::RangeSize(int32_t num_blocks) {
  return int32_t{1} << OrderFor(num_blocks);
}

int32_t BuddyAllocator::LargestRange(int32_t num_blocks) {
  return int32_t{1} << OrderWithin(num_blocks);
}

BuddyAllocator::BuddyAllocator(int32_t num_blocks) {
  CHECK_GT(num_blocks, 0);
  free_.resize(OrderWithin(num_blocks) + 1);
  orders_.assign(num_blocks, -1);
  num_free_ = num_blocks;
  for (int32_t first = 0; first < num_blocks;) {
    const int order = OrderWithin(num_blocks - first);
    free_[order].insert(first);
    first += int32_t{1} << order;
  }
}

absl::StatusOr<BlockId> BuddyAllocator::Allocate(int32_t num_blocks) {
  const int wanted = OrderFor(num_blocks);
  size_t order = wanted;
  while (order < free_.size() && free_[order].empty()) ++order;
  if (order >= free_.size()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "want ", int32_t{1} << wanted, " KV blocks in a row, have ", num_free_,
        " free, ", largest_free(), " of them in a row"));
  }
  const int32_t first = *free_[order].begin();
  free_[order].erase(free_[order].begin());
  // The upper halves stay free.
  while (static_cast<int>(order) > wanted) {
    --order;
    free_[order].insert(first + (int32_t{1} << order));
  }
  orders_[first] = static_cast<int8_t>(wanted);
  num_free_ -= int32_t{1} << wanted;
  return BlockId(first);
}

int BuddyAllocator::OrderAt(BlockId first) const {
  CHECK_LT(static_cast<uint32_t>(first.value()), orders_.size());
  const int order = orders_[first.value()];
  CHECK_GE(order, 0) << "no range is allocated at block " << first;
  return order;
}

int32_t BuddyAllocator::SizeAt(BlockId first) const {
  return int32_t{1} << OrderAt(first);
}

void BuddyAllocator::Free(BlockId block) {
  size_t order = OrderAt(block);
  orders_[block.value()] = -1;
  num_free_ += int32_t{1} << order;
  int32_t first = block.value();
  // A buddy that would pass the end of the pool is never free.
  while (order + 1 < free_.size()) {
    const int32_t buddy = first ^ (int32_t{1} << order);
    if (free_[order].erase(buddy) == 0) break;
    first = first < buddy ? first : buddy;
    ++order;
  }
  free_[order].insert(first);
}

int32_t BuddyAllocator::largest_free() const {
  for (int order = static_cast<int>(free_.size()) - 1; order >= 0; --order) {
    if (!free_[order].empty()) return int32_t{1} << order;
  }
  return 0;
}

absl::Status BuddyAllocator::CheckInvariants() const {
  std::vector<int32_t> num_ranges(orders_.size());
  const auto cover = [&](int32_t first, int order) {
    const int32_t size = int32_t{1} << order;
    if (first % size != 0 || first + size > num_blocks()) return false;
    for (int32_t block = first; block < first + size; ++block) {
      ++num_ranges[block];
    }
    return true;
  };
  int32_t num_free = 0;
  for (size_t order = 0; order < free_.size(); ++order) {
    for (int32_t first : free_[order]) {
      num_free += int32_t{1} << order;
      if (!cover(first, static_cast<int>(order)) ||
          (order + 1 < free_.size() &&
           free_[order].contains(first ^ (int32_t{1} << order)))) {
        return absl::InternalError(
            absl::StrCat("the free range of ", int32_t{1} << order,
                         " KV blocks at ", first, " is not a whole one"));
      }
    }
  }
  for (int32_t first = 0; first < num_blocks(); ++first) {
    if (orders_[first] < 0) continue;
    if (!cover(first, orders_[first])) {
      return absl::InternalError(
          absl::StrCat("the range at KV block ", first, " is not aligned"));
    }
  }
  for (int32_t block = 0; block < num_blocks(); ++block) {
    if (num_ranges[block] != 1) {
      return absl::InternalError(absl::StrCat("KV block ", block, " is in ",
                                              num_ranges[block], " ranges"));
    }
  }
  if (num_free != num_free_) {
    return absl::InternalError(absl::StrCat(
        num_free, " KV blocks are free, the count says ", num_free_));
  }
  return absl::OkStatus();
}

}  // namespace quire
