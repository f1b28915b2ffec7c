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
#include "kernels/cuda/token_logprobs.h"

namespace quire {
namespace {

constexpr char kOperation[] = "choosing tokens";

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
  return ReserveShared(
      std::max<int64_t>(params.num_filtered, 2 * int64_t{params.num_logprobs}),
      std::max(ChooseFilteredWorkspaceBytes(params.num_filtered,
                                            params.num_vocab, num_sms_),
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

absl::Status CudaShapedChoice::Run(const ShapedChoiceParams& params) {
  QUIRE_RETURN_IF_ERROR(Reserve(params));
  QUIRE_RETURN_IF_CUDA_ERROR(LaunchEditLogitsCuda(params, stream_), kOperation);
  if (params.num_unfiltered > 0) {
    QUIRE_RETURN_IF_CUDA_ERROR(
        LaunchChooseUnfilteredCuda(params, unfiltered_->data(),
                                   unfiltered_rows_, stream_),
        kOperation);
  }
  int32_t* const counters =
      counters_ == nullptr ? nullptr : counters_->as<int32_t>();
  void* const workspace = workspace_ == nullptr ? nullptr : workspace_->data();
  QUIRE_RETURN_IF_CUDA_ERROR(
      LaunchChooseFilteredCuda(params, counters, workspace, num_sms_, stream_),
      kOperation);
  QUIRE_RETURN_IF_CUDA_ERROR(LaunchFinishEditsCuda(params, stream_),
                             kOperation);
  return CudaStatus(
      LaunchTokenLogprobsCuda(params, counters, workspace, num_sms_, stream_),
      kOperation);
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
  QUIRE_RETURN_IF_ERROR(
      ReserveShared(NucleusCounters(params.num_rows),
                    NucleusWorkspaceBytes(params, num_sms_)));
  return CudaStatus(LaunchNucleusCuda(params, counters_->as<int32_t>(),
                                      workspace_->data(), num_sms_, stream_),
                    kOperation);
}

}  // namespace quire
