// SPDX-License-Identifier: Apache-2.0
#include "worker/kv/kv_cache.h"

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

absl::Status Explain(const absl::Status& status, int64_t num_blocks,
                     const char* kind, int64_t block_bytes) {
  return absl::Status(status.code(),
                      absl::StrCat(num_blocks, " ", kind, " KV blocks of ",
                                   block_bytes, " bytes: ", status.message()));
}

}  // namespace

PagedKvCache::PagedKvCache(Backend* backend, const KvLayout& layout,
                           int32_t num_blocks, int32_t num_host_blocks)
    : backend_(backend),
      layout_(layout),
      num_blocks_(num_blocks),
      num_host_blocks_(num_host_blocks) {}

absl::StatusOr<std::unique_ptr<PagedKvCache>> PagedKvCache::Create(
    Backend* backend, const KvLayout& layout, int32_t num_blocks,
    int32_t num_host_blocks) {
  CHECK_GT(num_blocks, 0);
  CHECK_GE(num_host_blocks, 0);
  auto cache = absl::WrapUnique(
      new PagedKvCache(backend, layout, num_blocks, num_host_blocks));
  const int64_t block_bytes = layout.BlockBytes();
  auto device_pool = backend->Allocate(num_blocks * block_bytes);
  if (!device_pool.ok()) {
    return Explain(device_pool.status(), num_blocks, "device", block_bytes);
  }
  cache->device_pool_ = *std::move(device_pool);
  if (num_host_blocks > 0) {
    auto host_pool = backend->AllocateHost(num_host_blocks * block_bytes);
    if (!host_pool.ok()) {
      return Explain(host_pool.status(), num_host_blocks, "host", block_bytes);
    }
    cache->host_pool_ = *std::move(host_pool);
  }
  return cache;
}

KvCache PagedKvCache::view() const {
  return {device_pool_->data(), layout_, num_blocks_};
}

BlockCopyParams PagedKvCache::ParamsFor(const DeviceBuffer& src,
                                        const DeviceBuffer& dst) {
  return {src.data(), dst.data(), pairs_.data(), layout_.BlockBytes(),
          static_cast<int32_t>(pairs_.size())};
}

absl::Status PagedKvCache::MoveBlocks(const StepPlan& plan) {
  if (!plan.swap_outs.empty()) {
    pairs_.clear();
    for (const BlockSwap& swap : plan.swap_outs) {
      pairs_.push_back({swap.device.value(), swap.host.value()});
    }
    QUIRE_RETURN_IF_ERROR(
        backend_->SwapOutBlocks(ParamsFor(*device_pool_, *host_pool_)));
  }
  if (!plan.swap_ins.empty()) {
    pairs_.clear();
    for (const BlockSwap& swap : plan.swap_ins) {
      pairs_.push_back({swap.host.value(), swap.device.value()});
    }
    QUIRE_RETURN_IF_ERROR(
        backend_->SwapInBlocks(ParamsFor(*host_pool_, *device_pool_)));
  }
  if (!plan.copies.empty()) {
    pairs_.clear();
    for (const BlockCopy& copy : plan.copies) {
      pairs_.push_back({copy.src.value(), copy.dst.value()});
    }
    QUIRE_RETURN_IF_ERROR(
        backend_->CopyBlocks(ParamsFor(*device_pool_, *device_pool_)));
  }
  return absl::OkStatus();
}

}  // namespace quire
