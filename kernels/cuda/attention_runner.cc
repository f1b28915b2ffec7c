// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/attention_runner.h"

#include "common/status_macros.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_status.h"

namespace quire {
namespace {

// Whether the two are layers of one step, given that no array changed.
bool IsSameStep(const AttentionParams& a, const AttentionParams& b) {
  const KvLayout& x = a.cache.layout;
  const KvLayout& y = b.cache.layout;
  return a.block_tables == b.block_tables && a.seq_slots == b.seq_slots &&
         a.query_start == b.query_start && a.context_lens == b.context_lens &&
         a.max_blocks_per_seq == b.max_blocks_per_seq &&
         a.num_seqs == b.num_seqs && a.num_tokens == b.num_tokens &&
         a.num_q_heads == b.num_q_heads &&
         a.sliding_window == b.sliding_window && a.scale == b.scale &&
         a.q_stride == b.q_stride && a.cache.num_blocks == b.cache.num_blocks &&
         x.num_layers == y.num_layers && x.num_kv_heads == y.num_kv_heads &&
         x.head_dim == y.head_dim && x.block_size == y.block_size &&
         x.dtype == y.dtype && x.order == y.order &&
         x.block_padding == y.block_padding;
}

}  // namespace

bool AttentionRunner::HasPlan(const AttentionParams& params) const {
  return has_plan_ && IsSameStep(params, planned_);
}

absl::Status AttentionRunner::Reserve(const AttentionParams& params) {
  const int64_t bytes =
      AttentionCudaWorkspaceBytes(params.num_tokens, params.num_q_heads,
                                  params.cache.layout.head_dim, num_sms_);
  if (workspace_ != nullptr && workspace_->bytes() >= bytes) {
    return absl::OkStatus();
  }
  QUIRE_RETURN_IF_ERROR(grow_(bytes, &workspace_));
  ForgetPlan();  // it was in the workspace
  return CudaStatus(cudaMemsetAsync(workspace_->data(), kAttentionEmptyByte,
                                    workspace_->bytes(), stream_),
                    "attention");
}

absl::Status AttentionRunner::Run(const AttentionParams& params) {
  AttentionCudaOptions options = {};
  options.workspace = workspace_->data();
  options.workspace_bytes = workspace_->bytes();
  options.num_sms = num_sms_;
  // Every sequence has a new token at least.
  options.max_query = params.num_tokens - params.num_seqs + 1;
  options.is_deterministic = is_deterministic_;
  options.reuse_plan = HasPlan(params);
  planned_ = params;
  has_plan_ = true;
  return CudaStatus(LaunchAttentionCuda(params, options, stream_), "attention");
}

}  // namespace quire
