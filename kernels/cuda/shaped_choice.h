// SPDX-License-Identifier: Apache-2.0
//
// The kernels of shaped, listed and nucleus choices and of log probabilities
// from shards (kernels/shaped_choice.h, listed_choice.h, nucleus_choice.h,
// shard_logprobs.h) in their order, and their working memory.
#ifndef KERNELS_CUDA_SHAPED_CHOICE_H_
#define KERNELS_CUDA_SHAPED_CHOICE_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/listed_choice.h"
#include "kernels/nucleus_choice.h"
#include "kernels/shaped_choice.h"
#include "kernels/shard_logprobs.h"

namespace quire {

// Buffers grow to the largest call. Thread-compatible.
class CudaShapedChoice {
 public:
  CudaShapedChoice(cudaStream_t stream, int32_t num_sms)
      : stream_(stream), num_sms_(num_sms) {}

  // Enqueues what the rows ask for, and nothing else.
  absl::Status Run(const ShapedChoiceParams& params);
  absl::Status Edit(const EditLogitsParams& params);
  absl::Status Finish(const EditLogitsParams& params);
  absl::Status List(const ListTokensParams& params);
  absl::Status Merge(const MergeListsParams& params);
  absl::Status ChooseFromNuclei(const NucleusParams& params);
  absl::Status TakeShardLogprobs(const ShardLogprobsParams& params);

 private:
  absl::Status Reserve(const ShapedChoiceParams& params);
  absl::Status ChooseFiltered(const ShapedChoiceParams& params);
  // Room for so many counters, and for so many bytes of workspace.
  absl::Status ReserveShared(int64_t num_counters, int64_t bytes);
  absl::Status ReserveZeros(int64_t bytes,
                            std::unique_ptr<DeviceBuffer>* buffer);

  const cudaStream_t stream_;
  const int32_t num_sms_;
  std::unique_ptr<DeviceBuffer> unfiltered_;  // zeros between calls
  int32_t unfiltered_rows_ = 0;               // that it has room for
  std::unique_ptr<DeviceBuffer> counters_;    // zeros between kernels
  std::unique_ptr<DeviceBuffer> workspace_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_SHAPED_CHOICE_H_
