// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/executor.h"

#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/kv/kv_cache.h"
#include "worker/kv/memory_profile.h"
#include "worker/kv/virtual_kv_cache.h"

namespace quire {

Executor::Executor(ExecutorParts parts, const Clock* clock)
    : parts_(std::move(parts)), clock_(clock) {}

absl::StatusOr<std::unique_ptr<Executor>> Executor::Create(ExecutorParts parts,
                                                           const Clock* clock) {
  auto executor = absl::WrapUnique(new Executor(std::move(parts), clock));
  ExecutorParts& own = executor->parts_;
  QUIRE_ASSIGN_OR_RETURN(
      executor->sampler_,
      Sampler::Create(own.backend.get(), own.collective.get(),
                      own.model->vocab_shard(), own.limits.max_num_seqs));
  return executor;
}

absl::StatusOr<MemoryProfile> Executor::Profile(double memory_utilization) {
  MemoryProfile profile;
  QUIRE_ASSIGN_OR_RETURN(
      profile.largest_step,
      RunLargestStep(parts_.backend.get(), parts_.model.get(), parts_.limits,
                     parts_.block_size, parts_.vocab_size, *clock_));
  if (parts_.virtual_page_bytes == 0) {
    QUIRE_ASSIGN_OR_RETURN(
        profile.swap_bytes_per_second,
        MeasureSwap(parts_.backend.get(),
                    parts_.model->kv_layout(parts_.block_size), *clock_));
  }
  // Every rank has its weights and has met its largest step before any looks,
  // and all look before any goes on to allocate.
  QUIRE_RETURN_IF_ERROR(parts_.collective->Barrier());
  QUIRE_ASSIGN_OR_RETURN(const MemoryInfo memory,
                         parts_.backend->GetMemoryInfo());
  QUIRE_RETURN_IF_ERROR(parts_.collective->Barrier());
  QUIRE_ASSIGN_OR_RETURN(
      profile.kv_bytes,
      KvBytesFor(memory, memory_utilization, parts_.num_local_ranks));
  profile.block_bytes =
      parts_.virtual_page_bytes > 0
          ? row_shape().GroupBytes()
          : parts_.model->kv_layout(parts_.block_size).BlockBytes();
  profile.block_tokens = block_tokens();
  profile.weight_bytes = parts_.model->weight_bytes();
  profile.activation_bytes = parts_.model->activation_bytes();
  return profile;
}

int32_t Executor::block_tokens() const {
  return parts_.virtual_page_bytes > 0 ? row_shape().group_tokens
                                       : parts_.block_size;
}

RowShape Executor::row_shape() const {
  return MakeRowShape(parts_.model->kv_layout(parts_.block_size),
                      parts_.virtual_page_bytes, parts_.limits.max_model_len);
}

absl::StatusOr<std::unique_ptr<KvStore>> Executor::CreateKv(
    int32_t num_blocks, int32_t num_host_blocks) {
  Backend* const backend = parts_.backend.get();
  if (parts_.virtual_page_bytes > 0) {
    return VirtualKvCache::Create(
        backend, row_shape(), parts_.limits.max_num_seqs, num_blocks, clock_);
  }
  return PagedKvCache::Create(backend,
                              parts_.model->kv_layout(parts_.block_size),
                              num_blocks, num_host_blocks);
}

absl::Status Executor::AllocateKv(int32_t num_blocks, int32_t num_host_blocks) {
  if (has_kv()) {
    return absl::FailedPreconditionError("the KV cache is allocated already");
  }
  if (num_blocks < 1 || num_host_blocks < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a KV cache of ", num_blocks, " blocks and ",
                     num_host_blocks, " host blocks"));
  }
  SlotLimits limits;
  limits.max_num_seqs = parts_.limits.max_num_seqs;
  limits.max_model_len = parts_.limits.max_model_len;
  limits.block_size = parts_.block_size;
  limits.num_blocks = num_blocks;
  limits.num_host_blocks = num_host_blocks;
  if (parts_.virtual_page_bytes > 0) {
    // A row is a table of one block.
    limits.block_size = row_shape().layout.block_size;
    limits.num_blocks = parts_.limits.max_num_seqs;
    limits.num_host_blocks = 0;
  }
  limits.vocab_size = parts_.vocab_size;
  limits.sparse_pages = parts_.limits.sparse_pages;
  slots_ = std::make_unique<SlotStates>(limits);
  QUIRE_ASSIGN_OR_RETURN(
      builder_, InputBuilder::Create(parts_.backend.get(), limits,
                                     parts_.limits.max_num_batched_tokens));
  QUIRE_ASSIGN_OR_RETURN(kv_, CreateKv(num_blocks, num_host_blocks));
  return absl::OkStatus();
}

absl::Status Executor::Step(const StepPlan& plan, StepResult* result) {
  CHECK(has_kv());
  QUIRE_RETURN_IF_ERROR(slots_->Apply(plan));
  QUIRE_RETURN_IF_ERROR(kv_->Prepare(plan, *slots_));
  sampled_.tokens.clear();
  sampled_.logprobs.clear();
  if (!plan.decodes.empty() || !plan.chunks.empty()) {
    QUIRE_ASSIGN_OR_RETURN(const BatchInput batch,
                           builder_->Build(plan, slots_.get()));
    QUIRE_ASSIGN_OR_RETURN(const float* logits,
                           parts_.model->Forward(batch, kv_->view()));
    QUIRE_RETURN_IF_ERROR(sampler_->Sample(logits, builder_->sampled_slots(),
                                           *slots_, &sampled_));
    slots_->Commit(plan, sampled_.tokens);
  }
  QUIRE_RETURN_IF_ERROR(parts_.backend->Synchronize());
  result->identity = plan.identity;
  result->token_digest = TokenDigest(sampled_.tokens);
  result->table_digest = slots_->table_digest();
  result->tokens.clear();
  result->logprobs.clear();
  if (parts_.collective->rank() == 0) {
    result->tokens = sampled_.tokens;
    result->logprobs.swap(sampled_.logprobs);
  }
  return absl::OkStatus();
}

}  // namespace quire
