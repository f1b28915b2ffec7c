// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/edit_logits.h"

namespace quire {
namespace {

constexpr int kThreads = 256;
// Columns that a thread loads at a time where a block goes through a row.
constexpr int kPerThread = 8;

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

// Whether the edit is of a shard of which it may leave some ids only.
__device__ __forceinline__ bool IsRestricted(const EditLogitsParams& params,
                                             const EditRow& edit) {
  return params.has_others != nullptr && edit.first_allowed >= 0;
}

__device__ __forceinline__ bool IsAllowed(const EditLogitsParams& params,
                                          const EditRow& edit, int32_t id) {
  return edit.first_allowed < 0 ||
         (id / 32 < edit.num_allowed_words &&
          (params.allowed[edit.first_allowed + id / 32] >> (id % 32) & 1));
}

__device__ float* RowOf(const EditLogitsParams& params, const EditRow& edit) {
  return params.logits + int64_t{edit.row} * params.num_vocab;
}

// The row's logit of that token; null if it is another shard's, or nobody's.
__device__ float* LogitOf(const EditLogitsParams& params, const EditRow& edit,
                          int32_t id) {
  if (id < params.first_id || id - params.first_id >= params.num_vocab) {
    return nullptr;
  }
  return RowOf(params, edit) + (id - params.first_id);
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

// Calls f(columns, values) for kPerThread columns of the row at a time, of each
// thread its own; beyond the end values are -infinity. All threads call it.
// Ends where f yields true.
template <typename F>
__device__ __forceinline__ void ForColumns(const float* row, int num_vocab,
                                           const F& f) {
  for (int first = 0; first < num_vocab; first += kPerThread * kThreads) {
    int columns[kPerThread];
    float values[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      columns[i] = first + i * kThreads + static_cast<int>(threadIdx.x);
      values[i] = columns[i] < num_vocab ? row[columns[i]] : -INFINITY;
    }
    if (f(columns, values)) return;
  }
}

// Whether a token that is not masked may be chosen, of the columns that there
// are. It is found among the first as a rule. All threads call it and get it.
__device__ bool HasUnmasked(const EditLogitsParams& params, const EditRow& edit,
                            const Lists& lists) {
  const auto is_chosen_from = [&](int32_t id) {
    if (!IsAllowed(params, edit, id)) return false;
    for (int i = 0; i < lists.num_masked; ++i) {
      if (lists.masked[i] == id) return false;
    }
    return true;
  };
  bool is_found = false;
  ForColumns(RowOf(params, edit), params.num_vocab,
             [&](const auto& columns, const auto& values) {
               for (int i = 0; i < kPerThread && !is_found; ++i) {
                 is_found = values[i] != -INFINITY &&
                            is_chosen_from(params.first_id + columns[i]);
               }
               is_found = __syncthreads_or(is_found);
               return is_found;
             });
  return is_found;
}

__device__ __forceinline__ void Mask(const EditLogitsParams& params,
                                     const EditRow& edit, const Lists& lists) {
  for (int i = threadIdx.x; i < lists.num_masked; i += kThreads) {
    float* const logit = LogitOf(params, edit, lists.masked[i]);
    if (logit != nullptr && *logit < INFINITY) *logit = -INFINITY;
  }
}

// Leaves a shard's allowed ids, and keeps all of it if that is wanted.
__device__ void Restrict(const EditLogitsParams& params, const EditRow& edit) {
  float* const row = RowOf(params, edit);
  float* const saved =
      edit.first_saved < 0 ? nullptr : params.saved + edit.first_saved;
  ForColumns(row, params.num_vocab,
             [&](const auto& columns, const auto& values) {
#pragma unroll
               for (int i = 0; i < kPerThread; ++i) {
                 if (columns[i] >= params.num_vocab) continue;
                 if (saved != nullptr) saved[columns[i]] = values[i];
                 if (values[i] < INFINITY &&
                     !IsAllowed(params, edit, params.first_id + columns[i])) {
                   row[columns[i]] = -INFINITY;
                 }
               }
               return false;
             });
}

// Keeps what the edit's lists name.
__device__ void Save(const EditLogitsParams& params, const EditRow& edit,
                     const Lists& lists) {
  for (int i = threadIdx.x; i < lists.size(); i += kThreads) {
    const float* const logit = LogitOf(params, edit, lists.IdAt(i));
    if (logit != nullptr) params.saved[edit.first_saved + i] = *logit;
  }
}

// Takes back what was kept.
__device__ void Restore(const EditLogitsParams& params, const EditRow& edit,
                        const Lists& lists) {
  const float* const saved = params.saved + edit.first_saved;
  if (IsRestricted(params, edit)) {
    float* const row = RowOf(params, edit);
    ForColumns(saved, params.num_vocab,
               [&](const auto& columns, const auto& values) {
#pragma unroll
                 for (int i = 0; i < kPerThread; ++i) {
                   if (columns[i] < params.num_vocab) {
                     row[columns[i]] = values[i];
                   }
                 }
                 return false;
               });
    return;
  }
  for (int i = threadIdx.x; i < lists.size(); i += kThreads) {
    float* const logit = LogitOf(params, edit, lists.IdAt(i));
    if (logit != nullptr) *logit = saved[i];
  }
}

// Each list names a token once, masks apart, which may repeat: one list after
// the other. A logit that is NaN or +infinity stays, to be found.
__global__ void __launch_bounds__(kThreads)
    EditLogitsKernel(const __grid_constant__ EditLogitsParams params) {
  const EditRow& edit = params.edits[blockIdx.x];
  const Lists lists = ListsOf(params, edit);
  if (IsRestricted(params, edit)) {
    Restrict(params, edit);
  } else if (edit.first_saved >= 0) {
    Save(params, edit, lists);
  }
  __syncthreads();
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
  const bool has_others =
      lists.num_masked > 0 && HasUnmasked(params, edit, lists);
  if (params.has_others == nullptr) {
    if (has_others) Mask(params, edit, lists);
  } else if (threadIdx.x == 0) {
    params.has_others[blockIdx.x] = has_others ? 1 : 0;
  }
}

__global__ void __launch_bounds__(kThreads)
    MaskLogitsKernel(const __grid_constant__ MaskLogitsParams params) {
  const EditRow& edit = params.edits[blockIdx.x];
  if (edit.num_masked == 0) return;
  bool has_others = false;
  for (int shard = 0; shard < params.num_shards; ++shard) {
    has_others |=
        params.heard[int64_t{shard} * params.num_edits + blockIdx.x] != 0;
  }
  if (has_others) Mask(params, edit, ListsOf(params, edit));
}

__global__ void __launch_bounds__(kThreads)
    FinishEditsKernel(const __grid_constant__ EditLogitsParams params) {
  const EditRow& edit = params.edits[blockIdx.x];
  const Lists lists = ListsOf(params, edit);
  if (edit.first_saved >= 0) Restore(params, edit, lists);
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

cudaError_t LaunchMaskLogitsCuda(const MaskLogitsParams& params,
                                 cudaStream_t stream) {
  if (params.num_edits <= 0) return cudaSuccess;
  MaskLogitsKernel<<<params.num_edits, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t LaunchFinishEditsCuda(const EditLogitsParams& params,
                                  cudaStream_t stream) {
  if (params.num_edits <= 0) return cudaSuccess;
  FinishEditsKernel<<<params.num_edits, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace quire
