// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/host_pool.h"

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {

HostPool::HostPool(int32_t num_blocks)
    : uses_(num_blocks),
      num_free_(num_blocks),
      perhaps_(num_blocks),
      surely_(num_blocks) {
  for (int32_t block = 0; block < num_blocks; ++block) {
    free_.push_back(HostBlockId(block));
  }
}

bool HostPool::IsReadBy(const StepPlan& plan, HostBlockId block) const {
  const size_t idx = uses_[block.value()].swap_in_idx;
  return idx < plan.swap_ins.size() && plan.swap_ins[idx].host == block;
}

std::optional<HostBlockId> HostPool::Allocate(const StepPlan& plan) {
  if (num_free_ == 0) return std::nullopt;
  const HostBlockId block = free_[first_free_];
  if (IsReadBy(plan, block)) return std::nullopt;
  if (++first_free_ == num_blocks()) first_free_ = 0;
  --num_free_;
  uses_[block.value()].is_free = false;
  return block;
}

void HostPool::Free(HostBlockId block) {
  CHECK(!is_free(block)) << "double free of host block " << block;
  CHECK(!is_listed(block)) << "host block " << block << " is not claimed";
  uses_[block.value()].is_free = true;
  free_[(first_free_ + num_free_) % num_blocks()] = block;
  ++num_free_;
}

void HostPool::List(HostBlockId block, CacheRank rank) {
  CHECK(!is_free(block) && !is_listed(block));
  (rank == CacheRank::kPerhaps ? perhaps_ : surely_).PushBack(block);
}

void HostPool::Claim(HostBlockId block) {
  CHECK(is_listed(block));
  (perhaps_.contains(block) ? perhaps_ : surely_).Remove(block);
}

std::optional<HostBlockId> HostPool::NextVictim(CacheRank rank) const {
  if (perhaps_.size() > 0) return perhaps_.front();
  if (rank == CacheRank::kSurely && surely_.size() > 0) return surely_.front();
  return std::nullopt;
}

void HostPool::SwapOut(BlockId device, HostBlockId host, StepPlan* plan) {
  DCHECK(!IsReadBy(*plan, host));
  int32_t& idx = uses_[host.value()].swap_out_idx;
  if (static_cast<size_t>(idx) < plan->swap_outs.size() &&
      plan->swap_outs[idx].host == host) {
    plan->swap_outs[idx].device = device;
    return;
  }
  idx = static_cast<int32_t>(plan->swap_outs.size());
  plan->swap_outs.push_back({.device = device, .host = host});
}

void HostPool::SwapIn(HostBlockId host, BlockId device, StepPlan* plan) {
  uses_[host.value()].swap_in_idx = static_cast<int32_t>(plan->swap_ins.size());
  plan->swap_ins.push_back({.device = device, .host = host});
}

absl::Status HostPool::CheckInvariants() const {
  int32_t num_free = 0;
  for (int32_t i = 0; i < num_blocks(); ++i) {
    const HostBlockId block(i);
    num_free += is_free(block);
    const int32_t num_lists =
        perhaps_.contains(block) + surely_.contains(block);
    if (num_lists + is_free(block) > 1) {
      return absl::InternalError(
          absl::StrCat("host block ", i, " is in two states"));
    }
  }
  if (num_free != num_free_) {
    return absl::InternalError(absl::StrCat(num_free, " host blocks are free, ",
                                            num_free_, " are counted"));
  }
  for (int32_t i = 0; i < num_free_; ++i) {
    if (!is_free(free_[(first_free_ + i) % num_blocks()])) {
      return absl::InternalError("a used host block is in the free ring");
    }
  }
  return absl::OkStatus();
}

}  // namespace quire
