// SPDX-License-Identifier: Apache-2.0
#include "worker/kv/memory_profile.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/batch/input_builder.h"
#include "worker/batch/slot_state.h"
#include "worker/kv/kv_cache.h"

namespace quire {
namespace {

int32_t BlocksFor(int32_t num_tokens, int32_t block_size) {
  return (num_tokens + block_size - 1) / block_size;
}

}  // namespace

StepPlan LargestStep(const StepLimits& limits, int32_t block_size) {
  const int32_t num_seqs =
      std::min(limits.max_num_seqs, limits.max_num_batched_tokens);
  StepPlan plan;
  int32_t num_left = limits.max_num_batched_tokens;
  int32_t next_block = 0;
  for (int32_t seq = 0; seq < num_seqs; ++seq) {
    const int32_t num_tokens =
        std::min(limits.max_model_len, num_left / (num_seqs - seq));
    num_left -= num_tokens;
    AdmittedSlot admitted;
    admitted.slot = SlotId(seq);
    admitted.tokens.assign(num_tokens, 0);
    admitted.num_prompt_tokens = num_tokens;
    std::vector<BlockId> blocks(BlocksFor(num_tokens, block_size));
    for (BlockId& block : blocks) block = BlockId(next_block++);
    admitted.cache = std::move(blocks);
    plan.admitted.push_back(std::move(admitted));
    plan.chunks.push_back({SlotId(seq), num_tokens, /*sample=*/true});
  }
  return plan;
}

absl::StatusOr<absl::Duration> RunLargestStep(Backend* backend, Model* model,
                                              const StepLimits& limits,
                                              int32_t block_size,
                                              int32_t vocab_size,
                                              const Clock& clock) {
  const StepPlan plan = LargestStep(limits, block_size);
  int32_t num_blocks = 0;
  for (const AdmittedSlot& admitted : plan.admitted) {
    num_blocks += BlocksFor(admitted.num_prompt_tokens, block_size);
  }
  SlotLimits slot_limits;
  slot_limits.max_num_seqs = limits.max_num_seqs;
  slot_limits.max_model_len = limits.max_model_len;
  slot_limits.block_size = block_size;
  slot_limits.num_blocks = num_blocks;
  slot_limits.vocab_size = vocab_size;
  slot_limits.sparse_pages = limits.sparse_pages;
  SlotStates slots(slot_limits);
  QUIRE_ASSIGN_OR_RETURN(
      const auto cache,
      PagedKvCache::Create(backend, model->kv_layout(block_size), num_blocks,
                           /*num_host_blocks=*/0));
  QUIRE_ASSIGN_OR_RETURN(const auto builder,
                         InputBuilder::Create(backend, slot_limits,
                                              limits.max_num_batched_tokens));
  QUIRE_RETURN_IF_ERROR(slots.Apply(plan));
  const absl::Time start = clock.Now();
  QUIRE_ASSIGN_OR_RETURN(const BatchInput batch, builder->Build(plan, &slots));
  QUIRE_RETURN_IF_ERROR(model->Forward(batch, cache->view()).status());
  QUIRE_RETURN_IF_ERROR(backend->Synchronize());
  return clock.Now() - start;
}

absl::StatusOr<int64_t> MeasureSwap(Backend* backend, const KvLayout& layout,
                                    const Clock& clock) {
  // Enough for the links of today to reach their rate.
  constexpr int64_t kTrialBytes = int64_t{32} << 20;
  const int32_t num_blocks = static_cast<int32_t>(
      std::max<int64_t>(1, kTrialBytes / layout.BlockBytes()));
  const auto cache =
      PagedKvCache::Create(backend, layout, num_blocks, num_blocks);
  if (absl::IsResourceExhausted(cache.status())) return 0;
  QUIRE_RETURN_IF_ERROR(cache.status());
  StepPlan out, in;
  for (int32_t i = 0; i < num_blocks; ++i) {
    out.swap_outs.push_back({BlockId(i), HostBlockId(i)});
    in.swap_ins.push_back({BlockId(i), HostBlockId(i)});
  }
  absl::Duration slowest;
  // The first round touches the memory.
  for (int round = 0; round < 2; ++round) {
    slowest = absl::ZeroDuration();
    for (const StepPlan* plan : {&out, &in}) {
      const absl::Time start = clock.Now();
      QUIRE_RETURN_IF_ERROR((*cache)->MoveBlocks(*plan));
      QUIRE_RETURN_IF_ERROR(backend->Synchronize());
      slowest = std::max(slowest, clock.Now() - start);
    }
  }
  if (slowest <= absl::ZeroDuration()) return 0;
  return static_cast<int64_t>(num_blocks * layout.BlockBytes() /
                              absl::ToDoubleSeconds(slowest));
}

absl::StatusOr<int64_t> KvBytesFor(const MemoryInfo& memory,
                                   double memory_utilization,
                                   int32_t num_sharers) {
  const int64_t used_bytes = memory.total_bytes - memory.free_bytes;
  const int64_t allowed_bytes =
      static_cast<int64_t>(memory.total_bytes * memory_utilization);
  const int64_t kv_bytes = (allowed_bytes - used_bytes) / num_sharers;
  if (kv_bytes > 0) return kv_bytes;
  return absl::ResourceExhaustedError(absl::StrCat(
      "no memory is left for KV blocks: ", used_bytes >> 20, " of ",
      memory.total_bytes >> 20, " MiB are in use and memory_utilization ",
      memory_utilization, " allows ", allowed_bytes >> 20,
      "; raise --memory_utilization or end other programs"));
}

}  // namespace quire
