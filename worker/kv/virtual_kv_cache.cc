// SPDX-License-Identifier: Apache-2.0
#include "worker/kv/virtual_kv_cache.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace quire {

absl::StatusOr<std::unique_ptr<VirtualKvCache>> VirtualKvCache::Create(
    Backend* backend, const RowShape& shape, int32_t num_rows,
    int32_t num_groups, const Clock* clock) {
  VirtualMemoryOptions options;
  options.page_bytes = shape.page_bytes;
  options.reserved_bytes = num_rows * shape.RowPages() * shape.page_bytes;
  options.num_pages = int64_t{num_groups} * shape.group_pages;
  auto memory = backend->ReserveVirtual(options);
  if (!memory.ok()) {
    return absl::Status(
        memory.status().code(),
        absl::StrCat(num_rows, " cache rows of ", shape.layout.block_size,
                     " tokens: ", memory.status().message()));
  }
  return absl::WrapUnique(new VirtualKvCache(shape, num_rows, num_groups,
                                             *std::move(memory), clock));
}

VirtualKvCache::VirtualKvCache(const RowShape& shape, int32_t num_rows,
                               int32_t num_groups,
                               std::unique_ptr<VirtualMemory> memory,
                               const Clock* clock)
    : shape_(shape),
      num_rows_(num_rows),
      num_groups_(num_groups),
      memory_(std::move(memory)),
      mapped_(num_rows),
      used_(num_rows),
      mapper_(memory_.get(), num_rows, shape.row_groups, shape.group_pages,
              clock) {}

KvCache VirtualKvCache::view() const {
  return {memory_->data(), shape_.layout, num_rows_};
}

bool VirtualKvCache::MayPrepareAhead(const StepPlan& plan) const {
  const auto leaves_used = [this](const RowMapping& mapping) {
    const int32_t row = mapping.row.value();
    return row >= 0 && row < num_rows_ && mapping.num_page_groups >= used_[row];
  };
  return std::all_of(plan.mappings.begin(), plan.mappings.end(), leaves_used);
}

absl::Status VirtualKvCache::CheckMappings(const StepPlan& plan) {
  if (!plan.copies.empty() || !plan.swap_outs.empty() ||
      !plan.swap_ins.empty()) {
    return absl::InternalError("blocks are moved, but the cache has rows");
  }
  for (const RowMapping& mapping : plan.mappings) {
    const int32_t row = mapping.row.value();
    if (row < 0 || row >= num_rows_ || mapping.num_page_groups < 0 ||
        mapping.num_page_groups > shape_.row_groups) {
      return absl::InternalError(
          absl::StrCat("cache row ", row, " gets ", mapping.num_page_groups,
                       " page groups; there are ", num_rows_, " rows of ",
                       shape_.row_groups));
    }
    num_mapped_ += mapping.num_page_groups - mapped_[row];
    mapped_[row] = mapping.num_page_groups;
    if (num_mapped_ > num_groups_) {
      return absl::InternalError(absl::StrCat(
          "cache row ", row, " gets ", mapping.num_page_groups,
          " page groups, which makes ", num_mapped_, " of ", num_groups_));
    }
  }
  return absl::OkStatus();
}

absl::Status VirtualKvCache::AwaitSlice(SlotId slot, int32_t num_tokens,
                                        const SlotStates& slots) {
  QUIRE_RETURN_IF_ERROR(slots.CheckAlive(slot));
  const absl::Span<const int32_t> table = slots.block_table(slot);
  if (table.empty()) return absl::OkStatus();  // input_builder says so
  const int64_t end = int64_t{slots.slot(slot).num_computed} + num_tokens;
  if (end > shape_.layout.block_size) return absl::OkStatus();
  const auto num_groups =
      static_cast<int32_t>((end - 1) / shape_.group_tokens + 1);
  used_[table[0]] = num_groups;
  return mapper_.Await(table[0], num_groups);
}

absl::Status VirtualKvCache::Prepare(const StepPlan& plan,
                                     const SlotStates& slots) {
  QUIRE_RETURN_IF_ERROR(CheckMappings(plan));
  mapper_.Post(plan.mappings);
  std::fill(used_.begin(), used_.end(), 0);
  for (SlotId slot : plan.decodes) {
    QUIRE_RETURN_IF_ERROR(AwaitSlice(slot, 1, slots));
  }
  for (const Slice& slice : plan.chunks) {
    QUIRE_RETURN_IF_ERROR(AwaitSlice(slice.slot, slice.num_tokens, slots));
  }
  return absl::OkStatus();
}

absl::StatusOr<PageMapperStats> VirtualKvCache::SettledStats() {
  QUIRE_RETURN_IF_ERROR(mapper_.AwaitAll());
  return mapper_.stats();
}

}  // namespace quire
