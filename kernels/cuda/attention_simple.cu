// SPDX-License-Identifier: Apache-2.0
//
// Attention without tensor cores, for float32 and for unusual head dims: right
// and plain, not fast.
#include <cstdint>

#include "cuda_bf16.h"
#include "kernels/cuda/attention_plan.h"

namespace quire::attention {
namespace {

// A thread a position of a run of them, and one an element.
constexpr int kThreads = 256;
constexpr int kMaxHeadDim = 256;
static_assert(kThreads >= kMaxHeadDim);

__device__ float ToFloat(float x) { return x; }
__device__ float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ void FromFloat(float x, float* to) { *to = x; }
__device__ void FromFloat(float x, __nv_bfloat16* to) {
  *to = __float2bfloat16_rn(x);
}

struct Max {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Sum {
  __device__ float operator()(float a, float b) const {
    return __fadd_rn(a, b);
  }
};

// Over all threads, in an order that depends on nothing.
template <typename Operation>
__device__ float Reduce(float value, float* scratch, Operation operation) {
  for (int step = 16; step > 0; step /= 2) {
    value = operation(value, __shfl_xor_sync(~0u, value, step));
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = scratch[0];
  for (int warp = 1; warp < kThreads / 32; ++warp) {
    value = operation(value, scratch[warp]);
  }
  return value;
}

__device__ int32_t FindSeq(const AttentionParams& p, int32_t token) {
  int32_t low = 0, high = p.num_seqs;
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    if (p.query_start[middle] <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// One block per row: thread i scores position i of a split, then adds up
// element i of the output. Splits fold in order of position.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    SimpleKernel(const __grid_constant__ AttentionParams p) {
  __shared__ float query[kMaxHeadDim], weights[kThreads],
      scratch[kThreads / 32];
  __shared__ int64_t keys[kThreads];
  const KvLayout layout = p.cache.layout;
  const int32_t head_dim = layout.head_dim;
  const int32_t token = blockIdx.x, head = blockIdx.y;
  if (token >= p.query_start[p.num_seqs]) return;  // padding
  const int32_t kv_head = head / (p.num_q_heads / layout.num_kv_heads);
  const int32_t seq = FindSeq(p, token);
  const int32_t end =
      p.context_lens[seq] - (p.query_start[seq + 1] - token) + 1;
  const int32_t begin =
      p.sliding_window > 0 ? max(0, end - p.sliding_window) : 0;
  const int32_t* table =
      p.block_tables + int64_t{p.seq_slots[seq]} * p.max_blocks_per_seq;
  const T* base = static_cast<const T*>(p.cache.base) +
                  p.cache.layer_idx * layout.LayerStride() +
                  kv_head * layout.HeadStride();
  const int i = threadIdx.x;
  if (i < head_dim) {
    query[i] = ToFloat(static_cast<const T*>(
        p.q)[token * p.q_stride + int64_t{head} * head_dim + i]);
  }
  const float infinity = __int_as_float(0x7f800000);
  float o = 0.0f, m = -infinity, l = 0.0f;
  for (int32_t start = begin / kThreads * kThreads; start < end;
       start += kThreads) {
    __syncthreads();
    const int32_t position = start + i;
    float score = -infinity;
    if (position >= begin && position < end) {
      const int64_t block = table[position / layout.block_size];
      keys[i] = block * layout.BlockStride();
      const T* key = base + keys[i];
      const int32_t token = position % layout.block_size;
      score = 0.0f;
      for (int32_t e = 0; e < head_dim; ++e) {
        score = __fmaf_rn(query[e],
                          ToFloat(key[layout.ElementOffset(token, e)]), score);
      }
      score = __fmul_rn(score, p.scale);
    }
    const float split_m = Reduce(score, scratch, Max());
    const float weight = score == -infinity ? 0.0f : expf(score - split_m);
    weights[i] = weight;
    const float split_l = Reduce(weight, scratch, Sum());
    const float next = fmaxf(m, split_m);
    const float a = expf(m - next), b = expf(split_m - next);
    if (i < head_dim) {
      float split_o = 0.0f;
      const int32_t last = min(kThreads, end - start);
      for (int32_t at = max(0, begin - start); at < last; ++at) {
        const int64_t value =
            keys[at] + layout.HeadsStride() +
            layout.ElementOffset((start + at) % layout.block_size, i);
        split_o = __fmaf_rn(weights[at], ToFloat(base[value]), split_o);
      }
      o = __fmaf_rn(split_o, b, __fmul_rn(o, a));
    }
    l = __fmaf_rn(split_l, b, __fmul_rn(l, a));
    m = next;
  }
  if (i < head_dim) {
    FromFloat(l > 0.0f ? __fdiv_rn(o, l) : 0.0f,
              static_cast<T*>(p.out) +
                  (int64_t{token} * p.num_q_heads + head) * head_dim + i);
  }
}

}  // namespace

cudaError_t LaunchSimple(const AttentionParams& params, cudaStream_t stream) {
  if (params.cache.layout.head_dim > kMaxHeadDim) return cudaErrorNotSupported;
  const dim3 grid(params.num_tokens, params.num_q_heads);
  if (params.cache.layout.dtype == DType::kF32) {
    SimpleKernel<float><<<grid, kThreads, 0, stream>>>(params);
  } else {
    SimpleKernel<__nv_bfloat16><<<grid, kThreads, 0, stream>>>(params);
  }
  return cudaGetLastError();
}

}  // namespace quire::attention
