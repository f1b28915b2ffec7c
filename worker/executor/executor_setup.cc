// SPDX-License-Identifier: Apache-2.0
//
// How an Executor comes to what its steps need: samplers, the memory profile,
// the KV cache, recordings.
#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/executor/executor.h"
#include "worker/executor/lost_device.h"
#include "worker/kv/kv_cache.h"
#include "worker/kv/memory_profile.h"
#include "worker/kv/virtual_kv_cache.h"

namespace quire {
namespace {

constexpr int64_t kMebibyte = int64_t{1} << 20;

// A step has no more decodes than tokens.
int32_t MaxRecordedSeqs(const StepLimits& limits) {
  return std::min(limits.max_num_seqs, limits.max_num_batched_tokens);
}

}  // namespace

Executor::Executor(ExecutorParts parts, const Clock* clock)
    : parts_(std::move(parts)), clock_(clock) {}

absl::StatusOr<std::unique_ptr<Executor>> Executor::Create(ExecutorParts parts,
                                                           const Clock* clock) {
  auto executor = absl::WrapUnique(new Executor(std::move(parts), clock));
  QUIRE_RETURN_IF_ERROR(
      MarkIfLost(executor->CreateSamplers(), executor->parts_.backend.get()));
  return executor;
}

absl::Status Executor::CreateSamplers() {
  Backend* const backend = parts_.backend.get();
  const VocabShard shard = parts_.model->vocab_shard();
  const int32_t max_rows = parts_.limits.max_num_seqs;
  QUIRE_ASSIGN_OR_RETURN(
      sampler_,
      Sampler::Create(backend, parts_.collective.get(), shard, max_rows));
  QUIRE_ASSIGN_OR_RETURN(
      scorer_,
      PromptScorer::Create(backend, parts_.collective.get(), shard, max_rows));
  return CreateChooser();
}

absl::Status Executor::CreateChooser() {
  Backend* const backend = parts_.backend.get();
  if (!parts_.device_sampling || !backend->chooses_shaped() ||
      !MayChooseOnDevice()) {
    return absl::OkStatus();
  }
  Collective* const collective = parts_.collective.get();
  const VocabShard shard = parts_.model->vocab_shard();
  const int32_t max_rows = parts_.limits.max_num_seqs;
  const bool is_group = collective->world_size() > 1;
  int32_t num_vocab = shard.num_ids;
  if (is_group) {
    QUIRE_ASSIGN_OR_RETURN(
        whole_rows_, WholeRows::Create(backend, collective, shard, max_rows));
    num_vocab = whole_rows_->num_vocab();
  }
  QUIRE_ASSIGN_OR_RETURN(seen_counts_,
                         SeenCounts::Create(backend, num_vocab, max_rows,
                                            parts_.limits.max_model_len));
  if (is_group) {
    QUIRE_ASSIGN_OR_RETURN(
        shard_edits_, ShardEdits::Create(backend, collective, shard, max_rows,
                                         seen_counts_.get()));
    QUIRE_ASSIGN_OR_RETURN(
        listed_choice_,
        ListedChoice::Create(backend, collective, shard, max_rows));
    QUIRE_ASSIGN_OR_RETURN(
        nucleus_choice_,
        NucleusChoice::Create(backend, collective, shard, max_rows));
    QUIRE_ASSIGN_OR_RETURN(
        group_logprobs_,
        GroupLogprobs::Create(backend, collective, shard, max_rows));
  }
  QUIRE_ASSIGN_OR_RETURN(chooser_,
                         DeviceChooser::Create(backend, num_vocab, max_rows,
                                               seen_counts_.get(), is_group));
  return absl::OkStatus();
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
  QUIRE_ASSIGN_OR_RETURN(
      profile.links,
      MeasureLinks(parts_.backend.get(), parts_.collective.get(),
                   /*is_recorded=*/parts_.records_decodes, *clock_));
  // Every rank has its weights and has met its largest step before any looks,
  // and all look before any goes on to allocate.
  QUIRE_RETURN_IF_ERROR(parts_.collective->Barrier());
  QUIRE_ASSIGN_OR_RETURN(const MemoryInfo memory,
                         parts_.backend->GetMemoryInfo());
  QUIRE_RETURN_IF_ERROR(parts_.collective->Barrier());
  QUIRE_ASSIGN_OR_RETURN(
      profile.kv_bytes,
      KvBytesFor(memory, memory_utilization, parts_.num_local_ranks));
  if (parts_.records_decodes) {
    profile.kv_bytes -=
        StepRecordings::kKeptBytes *
        StepRecordings::CountFor(MaxRecordedSeqs(parts_.limits),
                                 parts_.limits.max_num_batched_tokens);
    if (profile.kv_bytes <= 0) {
      return absl::ResourceExhaustedError(
          "recordings of steps leave no memory for KV blocks; lower "
          "--max_num_seqs, or let workers record none: quire_worker "
          "--enforce_eager, or QUIRE_ENFORCE_EAGER=true for quire serve");
    }
  }
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
  QUIRE_RETURN_IF_ERROR(AllocateTokens());
  QUIRE_ASSIGN_OR_RETURN(kv_, CreateKv(num_blocks, num_host_blocks));
  return PrepareSteps();
}

absl::Status Executor::AllocateTokens() {
  const int64_t bytes = parts_.limits.max_num_seqs * sizeof(int32_t);
  QUIRE_ASSIGN_OR_RETURN(device_tokens_, parts_.backend->Allocate(bytes));
  QUIRE_ASSIGN_OR_RETURN(all_tokens_,
                         parts_.backend->AllocateHost(sizeof(WordRun)));
  *all_tokens_->as<WordRun>() = {0, 0, parts_.limits.max_num_seqs};
  for (auto& tokens : host_tokens_) {
    QUIRE_ASSIGN_OR_RETURN(tokens, parts_.backend->AllocateHost(bytes));
  }
  if (parts_.collective->world_size() == 1) return absl::OkStatus();
  QUIRE_ASSIGN_OR_RETURN(
      group_choice_,
      GroupChoice::Create(parts_.backend.get(), parts_.collective.get(),
                          parts_.model->vocab_shard(),
                          parts_.limits.max_num_seqs));
  return absl::OkStatus();
}

absl::Status Executor::PrepareSteps() {
  if (!parts_.records_decodes) return absl::OkStatus();
  const auto enqueue = [this](const BatchInput& batch) {
    return Enqueue(batch, MayChooseOnDevice());
  };
  QUIRE_RETURN_IF_ERROR(WarmUpSteps(parts_.backend.get(), builder_.get(),
                                    parts_.limits.max_num_batched_tokens,
                                    enqueue));
  const int32_t max_seqs = MaxRecordedSeqs(parts_.limits);
  const int32_t max_tokens = parts_.limits.max_num_batched_tokens;
  QUIRE_ASSIGN_OR_RETURN(const MemoryInfo before,
                         parts_.backend->GetMemoryInfo());
  QUIRE_ASSIGN_OR_RETURN(
      recordings_, StepRecordings::Create(parts_.backend.get(), builder_.get(),
                                          max_seqs, max_tokens, enqueue));
  QUIRE_ASSIGN_OR_RETURN(const MemoryInfo after,
                         parts_.backend->GetMemoryInfo());
  const int64_t num_steps = StepRecordings::CountFor(max_seqs, max_tokens);
  LOG(INFO) << "recorded " << num_steps << " steps in "
            << (before.free_bytes - after.free_bytes) / kMebibyte
            << " MiB of device memory; "
            << num_steps * StepRecordings::kKeptBytes / kMebibyte
            << " MiB were kept for them";
  return absl::OkStatus();
}

}  // namespace quire
