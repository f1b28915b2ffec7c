// SPDX-License-Identifier: Apache-2.0
//
// Attention's working memory, and its plan of a step, made once for all layers.
#ifndef KERNELS_CUDA_ATTENTION_RUNNER_H_
#define KERNELS_CUDA_ATTENTION_RUNNER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "cuda_runtime_api.h"
#include "kernels/attention.h"
#include "kernels/backend.h"

namespace quire {

// Thread-compatible.
class AttentionRunner {
 public:
  // Makes a buffer hold at least so many bytes, of any contents, when nothing
  // enqueued uses it any more.
  using Grow =
      std::function<absl::Status(int64_t, std::unique_ptr<DeviceBuffer>*)>;

  AttentionRunner(cudaStream_t stream, int num_sms, bool is_deterministic,
                  Grow grow)
      : stream_(stream),
        num_sms_(num_sms),
        is_deterministic_(is_deterministic),
        grow_(std::move(grow)) {}

  // The plan is of another step: until this is called, arrays hold what they
  // held.
  void ForgetPlan() { has_plan_ = false; }

  // Whether the plan is of this step: all that describes the step has been
  // there since an earlier layer's attention.
  bool HasPlan(const AttentionParams& params) const;

  // Makes room for a call, and enqueues what empties it if there was too
  // little.
  absl::Status Reserve(const AttentionParams& params);
  // Enqueues. REQUIRES: Reserve(params), or of a call that needs as much.
  absl::Status Run(const AttentionParams& params);

 private:
  const cudaStream_t stream_;
  const int num_sms_;
  const bool is_deterministic_;
  const Grow grow_;
  std::unique_ptr<DeviceBuffer> workspace_;
  bool has_plan_ = false;
  AttentionParams planned_ = {};
};

}  // namespace quire

#endif  // KERNELS_CUDA_ATTENTION_RUNNER_H_
