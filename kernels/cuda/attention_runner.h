// SPDX-License-Identifier: Apache-2.0
//
// Attention's working memory, and its plan of a step, made once for all layers.
#ifndef KERNELS_CUDA_ATTENTION_RUNNER_H_
#define KERNELS_CUDA_ATTENTION_RUNNER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "cuda_runtime_api.h"
#include "kernels/attention.h"

namespace quire {

// Thread-compatible.
class AttentionRunner {
 public:
  AttentionRunner(cudaStream_t stream, int num_sms, bool is_deterministic)
      : stream_(stream),
        num_sms_(num_sms),
        is_deterministic_(is_deterministic) {}

  // Working memory that a call needs, at least.
  int64_t WorkspaceBytes(const AttentionParams& params) const;
  // The workspace is another one, or its plan is of another step: until this is
  // called, arrays hold what they held.
  void ForgetPlan() { has_plan_ = false; }

  // Whether the plan is of this step: all that describes the step has been
  // there since an earlier layer's attention.
  bool HasPlan(const AttentionParams& params) const;

  // Enqueues. REQUIRES: workspace_bytes >= WorkspaceBytes(params).
  absl::Status Run(const AttentionParams& params, void* workspace,
                   int64_t workspace_bytes);

 private:
  const cudaStream_t stream_;
  const int num_sms_;
  const bool is_deterministic_;
  bool has_plan_ = false;
  AttentionParams planned_ = {};
};

}  // namespace quire

#endif  // KERNELS_CUDA_ATTENTION_RUNNER_H_
