// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/edit_logits.h"

namespace quire {
namespace {

constexpr int kThreads = 256;

// The lists of one row, one after the other.
struct Lists {
  const TokenBias* biases;
  const int32_t* masked;
  const SeenToken* seen;
  int num_biases, num_masked, num_seen;

  __device__ int size() const { return num_biases + num_masked + num_seen; }
  __device__ int32_t IdAt(int i) const {
    if (i < num_biases) return biases[i].token_id;
    i -= num_biases;
    return i < num_masked ? masked[i] : seen[i - num_masked].token_id;
  }
};

__device__ SeenToken* SeenRow(const EditLogitsParams& params,
                              const EditRow& edit) {
  return params.seen + edit.slot * params.seen_stride;
}

__device__ Lists ListsOf(const EditLogitsParams& params, const EditRow& edit) {
  Lists lists = {params.biases + edit.first_bias,
                 params.masked + edit.first_masked,
                 nullptr,
                 edit.num_biases,
                 edit.num_masked,
                 0};
  if (edit.is_penalised) {
    const SeenToken* const row = SeenRow(params, edit);
    lists.seen = row + 1;
    lists.num_seen = reinterpret_cast<const SeenHeader*>(row)->count;
  }
  return lists;
}

// The row's logit of that token; null if it is another shard's, or nobody's.
__device__ float* LogitOf(const EditLogitsParams& params, const EditRow& edit,
                          int32_t id) {
  if (id < params.first_id || id - params.first_id >= params.num_vocab) {
    return nullptr;
  }
  return params.logits + int64_t{edit.row} * params.num_vocab +
         (id - params.first_id);
}

// Rounded after each operation, as the CPU does.
__device__ float Penalised(const EditRow& edit, const SeenToken& token,
                           float logit) {
  logit = logit > 0 ? logit / edit.repetition_penalty
                    : logit * edit.repetition_penalty;
  logit = __fsub_rn(logit, __fmul_rn(edit.frequency_penalty,
                                     static_cast<float>(token.output_count)));
  return token.output_count > 0 ? __fsub_rn(logit, edit.presence_penalty)
                                : logit;
}

// Whether a token that is not masked may be chosen. It is found among the first
// columns as a rule. REQUIRES: the row is whole.
__device__ bool HasUnmasked(const EditLogitsParams& params, const EditRow& edit,
                            const Lists& lists) {
  const float* const logits =
      params.logits + int64_t{edit.row} * params.num_vocab;
  const auto is_chosen_from = [&](int32_t id) {
    if (id >= params.num_vocab || logits[id] == -INFINITY) return false;
    if (edit.first_allowed >= 0 &&
        (id / 32 >= edit.num_allowed_words ||
         !(params.allowed[edit.first_allowed + id / 32] >> (id % 32) & 1))) {
      return false;
    }
    for (int i = 0; i < lists.num_masked; ++i) {
      if (lists.masked[i] == id) return false;
    }
    return true;
  };
  for (int first = 0; first < params.num_vocab; first += kThreads) {
    const int32_t id = first + static_cast<int32_t>(threadIdx.x);
    if (__syncthreads_or(is_chosen_from(id))) return true;
  }
  return false;
}

// Each list names a token once, masks apart, which may repeat: one list after
// the other. A logit that is NaN or +infinity stays, to be found.
__global__ void __launch_bounds__(kThreads)
    EditLogitsKernel(const __grid_constant__ EditLogitsParams params) {
  const EditRow& edit = params.edits[blockIdx.x];
  const Lists lists = ListsOf(params, edit);
  if (edit.first_saved >= 0) {
    for (int i = threadIdx.x; i < lists.size(); i += kThreads) {
      const float* const logit = LogitOf(params, edit, lists.IdAt(i));
      if (logit != nullptr) params.saved[edit.first_saved + i] = *logit;
    }
    __syncthreads();
  }
  for (int i = threadIdx.x; i < lists.num_biases; i += kThreads) {
    const TokenBias bias = lists.biases[i];
    float* const logit = LogitOf(params, edit, bias.token_id);
    if (logit != nullptr && *logit < INFINITY) *logit += bias.bias;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < lists.num_seen; i += kThreads) {
    const SeenToken token = lists.seen[i];
    float* const logit = LogitOf(params, edit, token.token_id);
    if (logit != nullptr && *logit < INFINITY) {
      *logit = Penalised(edit, token, *logit);
    }
  }
  __syncthreads();
  if (lists.num_masked == 0 || !HasUnmasked(params, edit, lists)) return;
  for (int i = threadIdx.x; i < lists.num_masked; i += kThreads) {
    float* const logit = LogitOf(params, edit, lists.masked[i]);
    if (logit != nullptr && *logit < INFINITY) *logit = -INFINITY;
  }
}

__global__ void __launch_bounds__(kThreads)
    FinishEditsKernel(const __grid_constant__ EditLogitsParams params) {
  const EditRow& edit = params.edits[blockIdx.x];
  const Lists lists = ListsOf(params, edit);
  if (edit.first_saved >= 0) {
    for (int i = threadIdx.x; i < lists.size(); i += kThreads) {
      float* const logit = LogitOf(params, edit, lists.IdAt(i));
      if (logit != nullptr) *logit = params.saved[edit.first_saved + i];
    }
  }
  const int32_t token = params.tokens[edit.row];
  if (!edit.is_penalised || token < 0) return;
  SeenToken* const row = SeenRow(params, edit);
  bool is_counted = false;
  for (int i = threadIdx.x; i < lists.num_seen; i += kThreads) {
    if (row[1 + i].token_id != token) continue;
    ++row[1 + i].output_count;
    is_counted = true;
  }
  if (__syncthreads_or(is_counted) || threadIdx.x != 0) return;
  row[1 + lists.num_seen] = {token, 1};
  reinterpret_cast<SeenHeader*>(row)->count = lists.num_seen + 1;
}

}  // namespace

cudaError_t LaunchEditLogitsCuda(const EditLogitsParams& params,
                                 cudaStream_t stream) {
  if (params.num_edits <= 0) return cudaSuccess;
  EditLogitsKernel<<<params.num_edits, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t LaunchFinishEditsCuda(const EditLogitsParams& params,
                                  cudaStream_t stream) {
  if (params.num_edits <= 0) return cudaSuccess;
  FinishEditsKernel<<<params.num_edits, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace quire
