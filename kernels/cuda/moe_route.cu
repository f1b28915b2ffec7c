// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/moe_route.h"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace quire {
namespace {

using Bf16 = __nv_bfloat16;

constexpr int kRouteWarps = 4;
constexpr int kCombineThreads = 128;

// Greater for greater numbers; least for what is not one, and never zero for
// what is.
__device__ __forceinline__ uint32_t OrderOf(float x) {
  if (isnan(x)) return 0;
  const uint32_t bits = __float_as_uint(x + 0.0f);  // -0 is 0
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float NumberOf(uint32_t order) {
  if (order == 0) return NAN;
  return __uint_as_float((order & 0x80000000u) != 0 ? order & 0x7fffffffu
                                                    : ~order);
}

__device__ __forceinline__ uint64_t WarpMaxKey(uint64_t key) {
#pragma unroll
  for (int offset = cuda::kWarp / 2; offset > 0; offset /= 2) {
    const uint64_t other = __shfl_xor_sync(~0u, key, offset);
    key = other > key ? other : key;
  }
  return key;
}

// A warp per token; lane l keeps the logits of experts l, l + 32, ...
template <int kPerLane>
__global__ void __launch_bounds__(kRouteWarps* cuda::kWarp)
    RouteKernel(const __grid_constant__ RouteTokensParams p) {
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const int lane = threadIdx.x % cuda::kWarp;
  const int64_t token =
      int64_t{blockIdx.x} * kRouteWarps + threadIdx.x / cuda::kWarp;
  if (token >= p.num_tokens) return;
  const float* logits = p.logits + token * p.logits_stride;
  // A key says how good an expert is, and then that it comes early.
  uint64_t keys[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = i * cuda::kWarp + lane;
    keys[i] = expert >= p.num_experts
                  ? 0
                  : uint64_t{OrderOf(logits[expert])} << 32 |
                        (0xffffffffu - static_cast<uint32_t>(expert));
  }
  float top = 0, all = 0, weight = 0;
  int expert = 0;
  for (int i = 0; i < p.top_k; ++i) {
    uint64_t best = 0;
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) best = keys[j] > best ? keys[j] : best;
    best = WarpMaxKey(best);
    const int chosen =
        static_cast<int>(0xffffffffu - static_cast<uint32_t>(best));
    const float logit = NumberOf(static_cast<uint32_t>(best >> 32));
    if (i == 0) {
      top = logit;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) {
        if (keys[j] == 0) continue;
        all += expf(NumberOf(static_cast<uint32_t>(keys[j] >> 32)) - top);
      }
      all = cuda::WarpSum(all);
    }
    if (lane == i) {
      expert = chosen;
      weight = expf(logit - top);
    }
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      if (keys[j] == best) keys[j] = 0;
    }
  }
  const float sum = p.renormalize ? cuda::WarpSum(weight) : all;
  if (lane >= p.top_k) return;
  p.experts[token * p.top_k + lane] = expert;
  p.weights[token * p.top_k + lane] = weight / sum;
}

// A block per expert. It counts the pairs of lower experts, which lie before
// its own, and deals out rows to its own in their order. A warp takes a run of
// pairs, 32 at a time.
__global__ void __launch_bounds__(1024)
    GroupPairsKernel(const __grid_constant__ RouteTokensParams p) {
  __shared__ int lower_of[cuda::kWarp];
  __shared__ int own_of[cuda::kWarp];
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const int lane = threadIdx.x % cuda::kWarp;
  const int warp = threadIdx.x / cuda::kWarp;
  const int warps = blockDim.x / cuda::kWarp;
  const int expert = blockIdx.x;
  const int num_pairs = p.num_tokens * p.top_k;
  const int steps = (num_pairs + blockDim.x - 1) / blockDim.x;
  const int begin = warp * steps * cuda::kWarp;
  int lower = 0, own = 0;
  for (int step = 0; step < steps; ++step) {
    const int pair = begin + step * cuda::kWarp + lane;
    const int at = pair < num_pairs ? p.experts[pair] : expert + 1;
    lower += __popc(__ballot_sync(~0u, at < expert));
    own += __popc(__ballot_sync(~0u, at == expert));
  }
  if (lane == 0) {
    lower_of[warp] = lower;
    own_of[warp] = own;
  }
  __syncthreads();
  int start = 0, row = 0;
  for (int i = 0; i < warps; ++i) {
    start += lower_of[i];
    if (i < warp) row += own_of[i];
  }
  row += start;
  if (threadIdx.x == 0) {
    p.expert_start[expert] = start;
    if (expert == p.num_experts - 1) p.expert_start[expert + 1] = num_pairs;
  }
  for (int step = 0; step < steps; ++step) {
    const int pair = begin + step * cuda::kWarp + lane;
    const bool is_own = pair < num_pairs && p.experts[pair] == expert;
    const unsigned all = __ballot_sync(~0u, is_own);
    if (is_own) {
      const int mine = row + __popc(all & ((1u << lane) - 1));
      p.pair_rows[pair] = mine;
      p.row_tokens[mine] = pair / p.top_k;
    }
    row += __popc(all);
  }
}

// A block per token and run of columns; a thread takes kCount of them.
template <typename T, int kCount>
__global__ void __launch_bounds__(kCombineThreads)
    CombineKernel(const __grid_constant__ CombineExpertsParams p) {
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const int64_t token = blockIdx.x;
  const int64_t column =
      (int64_t{blockIdx.y} * kCombineThreads + threadIdx.x) * kCount;
  if (column >= p.width) return;
  float sums[kCount] = {};
  const auto add = [&](const void* values, int64_t row, float weight) {
    float part[kCount];
    cuda::Load(static_cast<const T*>(values) + row * p.width + column, part);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] = fmaf(weight, part[i], sums[i]);
  };
  for (int i = 0; i < p.top_k; ++i) {
    const int64_t pair = token * p.top_k + i;
    add(p.y, p.pair_rows[pair], p.weights[pair]);
  }
  if (p.shared != nullptr) {
    const float gate =
        p.gate == nullptr
            ? 1.0f
            : 1.0f / (1.0f + expf(-p.gate[token * p.gate_stride]));
    add(p.shared, token, gate);
  }
  cuda::Store(sums, static_cast<T*>(p.out) + token * p.width + column);
}

template <typename T>
cudaError_t LaunchCombine(const CombineExpertsParams& p, cudaStream_t stream) {
  constexpr int kWide = cuda::kLanes<T>;
  const bool is_wide = p.width % kWide == 0 && cuda::IsAligned16(p.y) &&
                       cuda::IsAligned16(p.out) &&
                       (p.shared == nullptr || cuda::IsAligned16(p.shared));
  const int columns = kCombineThreads * (is_wide ? kWide : 1);
  const dim3 grid(p.num_tokens, (p.width + columns - 1) / columns);
  const dim3 block(kCombineThreads);
  return is_wide
             ? LaunchOverlapped(CombineKernel<T, kWide>, grid, block, 0, stream,
                                p)
             : LaunchOverlapped(CombineKernel<T, 1>, grid, block, 0, stream, p);
}

}  // namespace

cudaError_t LaunchRouteTokensCuda(const RouteTokensParams& params,
                                  cudaStream_t stream) {
  if (params.num_tokens > 0) {
    auto* kernel = RouteKernel<32>;
    if (params.num_experts <= 32) {
      kernel = RouteKernel<1>;
    } else if (params.num_experts <= 128) {
      kernel = RouteKernel<4>;
    } else if (params.num_experts <= 512) {
      kernel = RouteKernel<16>;
    }
    const int blocks = (params.num_tokens + kRouteWarps - 1) / kRouteWarps;
    const cudaError_t error =
        LaunchOverlapped(kernel, dim3(blocks), dim3(kRouteWarps * cuda::kWarp),
                         0, stream, params);
    if (error != cudaSuccess) return error;
  }
  // Enough threads that none has more than a few pairs.
  const int64_t num_pairs = int64_t{params.num_tokens} * params.top_k;
  const int threads = num_pairs <= 4096 ? 256 : 1024;
  return LaunchOverlapped(GroupPairsKernel, dim3(params.num_experts),
                          dim3(threads), 0, stream, params);
}

cudaError_t LaunchCombineExpertsCuda(const CombineExpertsParams& params,
                                     cudaStream_t stream) {
  if (params.num_tokens <= 0 || params.width <= 0) return cudaSuccess;
  return params.dtype == DType::kF32 ? LaunchCombine<float>(params, stream)
                                     : LaunchCombine<Bf16>(params, stream);
}

}  // namespace quire
