// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/shaped_choice.h"

#include <algorithm>

#include "common/status_macros.h"
#include "kernels/cuda/choose_filtered.h"
#include "kernels/cuda/choose_tokens.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/edit_logits.h"
#include "kernels/cuda/list_tokens.h"
#include "kernels/cuda/nucleus_choice.h"
#include "kernels/cuda/shard_logprobs.h"
#include "kernels/cuda/token_logprobs.h"

namespace quire {
namespace {

constexpr char kOperation[] = "choosing tokens";

// The stages that choose from the filtered rows that lists do not decide, as
// from one shard, but for what differs from stage to stage.
NucleusParams NucleiOf(const ShapedChoiceParams& params) {
  NucleusParams p = {};
  p.logits = params.logits;
  p.num_vocab = params.num_vocab;
  p.num_shards = 1;
  p.rows = params.rows;
  p.num_rows = params.num_filtered;
  p.tokens = params.tokens;
  p.by_slot = params.by_slot;
  return p;
}

// Where the parts of the workspace for filtered rows begin, in bytes.
struct FilteredMemory {
  int64_t rows;     // that are left
  int64_t states;   // of those
  int64_t said[2];  // in stages by turns
  int64_t work;     // of one launch
  int64_t end;
  // Those of a launch, and then how many rows are left.
  int64_t num_counters;
};

FilteredMemory MemoryOf(const ShapedChoiceParams& params, int32_t num_sms) {
  const int64_t num_rows = params.num_filtered;
  FilteredMemory memory = {};
  int64_t end = 0;
  const auto take = [&](int64_t bytes) {
    const int64_t begin = end;
    end += (bytes + 255) / 256 * 256;
    return begin;
  };
  memory.rows = take(num_rows * sizeof(int32_t));
  memory.states = take(kNumNucleusStages * num_rows * sizeof(NucleusState));
  for (int64_t& said : memory.said) {
    said = take(num_rows * NucleusBytes(NucleusStage::kEighths));
  }
  memory.work =
      take(std::max(ChooseFilteredWorkspaceBytes(params.num_filtered,
                                                 params.num_vocab, num_sms),
                    NucleusWorkspaceBytes(NucleiOf(params), num_sms)));
  memory.end = end;
  memory.num_counters = NucleusCounters(params.num_filtered) + 1;
  return memory;
}

}  // namespace

absl::Status CudaShapedChoice::ReserveZeros(
    int64_t bytes, std::unique_ptr<DeviceBuffer>* buffer) {
  if (*buffer != nullptr && (*buffer)->bytes() >= bytes) {
    return absl::OkStatus();
  }
  // What was enqueued may read the old one still.
  QUIRE_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), kOperation);
  QUIRE_RETURN_IF_ERROR(GrowBuffer(bytes, AllocateCuda, buffer));
  return CudaStatus(
      cudaMemsetAsync((*buffer)->data(), 0, (*buffer)->bytes(), stream_),
      kOperation);
}

absl::Status CudaShapedChoice::Reserve(const ShapedChoiceParams& params) {
  const int64_t unfiltered = ChooseTokensWorkspaceBytes(
      std::max(params.num_unfiltered, unfiltered_rows_), params.num_vocab);
  QUIRE_RETURN_IF_ERROR(ReserveZeros(unfiltered, &unfiltered_));
  if (params.num_unfiltered > unfiltered_rows_) {
    // Arrivals of more rows lie where pieces of fewer lay.
    unfiltered_rows_ = params.num_unfiltered;
    QUIRE_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(unfiltered_->data(), 0, unfiltered_->bytes(), stream_),
        kOperation);
  }
  const FilteredMemory filtered = MemoryOf(params, num_sms_);
  return ReserveShared(
      std::max(filtered.num_counters, 2 * int64_t{params.num_logprobs}),
      std::max(filtered.end,
               TokenLogprobsWorkspaceBytes(params.num_logprobs,
                                           params.num_vocab, num_sms_)));
}

absl::Status CudaShapedChoice::ReserveShared(int64_t num_counters,
                                             int64_t bytes) {
  QUIRE_RETURN_IF_ERROR(
      ReserveZeros(num_counters * sizeof(int32_t), &counters_));
  if (workspace_ != nullptr && workspace_->bytes() >= bytes) {
    return absl::OkStatus();
  }
  QUIRE_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), kOperation);
  return GrowBuffer(bytes, AllocateCuda, &workspace_);
}

absl::Status CudaShapedChoice::ChooseFiltered(
    const ShapedChoiceParams& params) {
  if (params.num_filtered <= 0) return absl::OkStatus();
  const FilteredMemory memory = MemoryOf(params, num_sms_);
  char* const base = workspace_->as<char>();
  int32_t* const counters = counters_->as<int32_t>();
  const LeftRows left = {reinterpret_cast<int32_t*>(base + memory.rows),
                         counters + memory.num_counters - 1,
                         reinterpret_cast<NucleusState*>(base + memory.states)};
  QUIRE_RETURN_IF_CUDA_ERROR(
      LaunchChooseFilteredCuda(params, left, counters, base + memory.work,
                               num_sms_, stream_),
      kOperation);
  if (params.all_have_top_k) return absl::OkStatus();
  const NucleusPicks picks = {left.rows, left.count, params.allowed};
  NucleusParams nuclei = NucleiOf(params);
  nuclei.states = left.states;
  for (int stage = static_cast<int>(NucleusStage::kEighths);
       stage < kNumNucleusStages; ++stage) {
    nuclei.stage = static_cast<NucleusStage>(stage);
    nuclei.said = base + memory.said[stage % 2];
    QUIRE_RETURN_IF_CUDA_ERROR(
        LaunchNucleusCuda(nuclei, picks, counters, base + memory.work, num_sms_,
                          stream_),
        kOperation);
    nuclei.heard = nuclei.said;
  }
  return absl::OkStatus();
}

absl::Status CudaShapedChoice::Run(const ShapedChoiceParams& params) {
  QUIRE_RETURN_IF_ERROR(Reserve(params));
  QUIRE_RETURN_IF_CUDA_ERROR(LaunchEditLogitsCuda(params, stream_), kOperation);
  if (params.num_unfiltered > 0) {
    QUIRE_RETURN_IF_CUDA_ERROR(
        LaunchChooseUnfilteredCuda(params, unfiltered_->data(),
                                   unfiltered_rows_, stream_),
        kOperation);
  }
  QUIRE_RETURN_IF_ERROR(ChooseFiltered(params));
  QUIRE_RETURN_IF_CUDA_ERROR(LaunchFinishEditsCuda(params, stream_),
                             kOperation);
  int32_t* const counters =
      counters_ == nullptr ? nullptr : counters_->as<int32_t>();
  void* const workspace = workspace_ == nullptr ? nullptr : workspace_->data();
  return CudaStatus(
      LaunchTokenLogprobsCuda(params, counters, workspace, num_sms_, stream_),
      kOperation);
}

absl::Status CudaShapedChoice::Edit(const EditLogitsParams& params) {
  return CudaStatus(LaunchEditLogitsCuda(params, stream_), kOperation);
}

absl::Status CudaShapedChoice::Finish(const EditLogitsParams& params) {
  return CudaStatus(LaunchFinishEditsCuda(params, stream_), kOperation);
}

absl::Status CudaShapedChoice::List(const ListTokensParams& params) {
  if (params.num_rows <= 0) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(ReserveShared(
      params.num_rows, ListTokensWorkspaceBytes(params, num_sms_)));
  return CudaStatus(LaunchListTokensCuda(params, counters_->as<int32_t>(),
                                         workspace_->data(), num_sms_, stream_),
                    kOperation);
}

absl::Status CudaShapedChoice::Merge(const MergeListsParams& params) {
  return CudaStatus(LaunchMergeListsCuda(params, stream_), kOperation);
}

absl::Status CudaShapedChoice::ChooseFromNuclei(const NucleusParams& params) {
  if (params.num_rows <= 0) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(ReserveShared(NucleusCounters(params.num_rows),
                                      NucleusWorkspaceBytes(params, num_sms_)));
  return CudaStatus(LaunchNucleusCuda(params, {}, counters_->as<int32_t>(),
                                      workspace_->data(), num_sms_, stream_),
                    kOperation);
}

absl::Status CudaShapedChoice::TakeShardLogprobs(
    const ShardLogprobsParams& params) {
  if (params.num_rows <= 0) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(
      ReserveShared(2 * int64_t{params.num_rows},
                    ShardLogprobsWorkspaceBytes(params, num_sms_)));
  return CudaStatus(
      LaunchShardLogprobsCuda(params, counters_->as<int32_t>(),
                              workspace_->data(), num_sms_, stream_),
      "taking log probabilities");
}

}  // namespace quire
