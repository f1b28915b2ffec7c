// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/all_reduce.h"
#include "kernels/cuda/norm_row.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/peer_inbox.cuh"
#include "kernels/cuda/vector.cuh"

namespace quire {
namespace {

using peer::Inbox;
using Bf16 = __nv_bfloat16;

constexpr int kThreads = 256;
// Of a multiprocessor: all blocks of a grid run at once, as they wait for their
// counterparts on other devices.
constexpr int kBlocksPerSm = 4;

template <typename T>
__device__ __forceinline__ uint4 SumOf(const uint4* parts, int num_ranks) {
  float sum[cuda::kLanes<T>];
  peer::Unpack<T>(parts[0], sum);
#pragma unroll
  for (int r = 1; r < num_ranks; ++r) {
    float x[cuda::kLanes<T>];
    peer::Unpack<T>(parts[r], x);
#pragma unroll
    for (int j = 0; j < cuda::kLanes<T>; ++j) sum[j] += x[j];
  }
  return peer::WithoutEmpty(peer::Pack<T>(sum));
}

template <typename T, int kRanks>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    OneShotKernel(const __grid_constant__ PeerGroup group, T* data, int64_t n) {
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const Inbox<kRanks> inbox(group);
  const peer::Elements<T> elements = {data, n};
  const int64_t step = int64_t{gridDim.x} * kThreads;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t i = first; i < elements.num_vectors(); i += step) {
    inbox.SendToAll(elements.Load(i), i);
  }
  inbox.EndTurn();
  for (int64_t i = first; i < elements.num_vectors(); i += step) {
    uint4 parts[kRanks];
    inbox.TakeFromAll(elements.Load(i), i, parts);
    elements.Store(SumOf<T>(parts, kRanks), i);
  }
}

template <typename T, int kRanks>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    TwoShotKernel(const __grid_constant__ PeerGroup group, T* data, int64_t n) {
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const Inbox<kRanks> inbox(group);
  const peer::Elements<T> elements = {data, n};
  const int64_t step = int64_t{gridDim.x} * kThreads;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const auto slice_of = [&](int rank) {
    return SliceOf(elements.num_vectors(), rank, kRanks);
  };
  const VectorSlice own = slice_of(group.rank);
  for (int k = 1; k < kRanks; ++k) {
    const int to = (group.rank + k) % kRanks;
    const VectorSlice slice = slice_of(to);
    for (int64_t i = first; i < slice.size(); i += step) {
      inbox.Send(to, PartOffset(kRanks, group.rank), i,
                 elements.Load(slice.begin + i));
    }
  }
  inbox.EndTurn();
  for (int64_t i = first; i < own.size(); i += step) {
    uint4 parts[kRanks];
    inbox.TakeParts(elements.Load(own.begin + i), i, parts);
    const uint4 sum = SumOf<T>(parts, kRanks);
    elements.Store(sum, own.begin + i);
    for (int k = 1; k < kRanks; ++k) {
      const int to = (group.rank + k) % kRanks;
      inbox.Send(to, SumOffset(kRanks, group.rank), i, sum);
    }
  }
  for (int k = 1; k < kRanks; ++k) {
    const int from = (group.rank + k) % kRanks;
    const VectorSlice slice = slice_of(from);
    for (int64_t i = first; i < slice.size(); i += step) {
      elements.Store(inbox.Take(SumOffset(kRanks, from), i), slice.begin + i);
    }
  }
}

template <int kRanks>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    GatherKernel(const __grid_constant__ PeerGroup group, const uint32_t* in,
                 uint32_t* out, int64_t num_words) {
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const Inbox<kRanks> inbox(group);
  const peer::Elements<uint32_t> own = {const_cast<uint32_t*>(in), num_words};
  const int64_t step = int64_t{gridDim.x} * kThreads;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t i = first; i < own.num_vectors(); i += step) {
    inbox.SendToAll(own.Load(i), i);
  }
  inbox.EndTurn();
  for (int64_t i = first; i < own.num_vectors(); i += step) {
    uint4 parts[kRanks];
    inbox.TakeFromAll(own.Load(i), i, parts);
#pragma unroll
    for (int r = 0; r < kRanks; ++r) {
      peer::Elements<uint32_t>{out + r * num_words, num_words}.Store(parts[r],
                                                                     i);
    }
  }
}

// A block a row, as the norm alone has it.
template <typename X, typename T, int kPieces, int kRanks>
__global__ void __launch_bounds__(norm::kMaxThreads)
    OneShotNormKernel(const __grid_constant__ PeerGroup group,
                      const __grid_constant__ NormParams params) {
  constexpr int kLanes = cuda::kLanes<T>;
  // Vectors of X that a piece is.
  constexpr int kVectors = kLanes / cuda::kLanes<X>;
  __shared__ float shared[cuda::kWarp];
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const Inbox<kRanks> inbox(group);
  const peer::Elements<X> elements = {
      static_cast<X*>(const_cast<void*>(params.x)),
      int64_t{params.num_tokens} * params.width};
  const auto first_vector = [&](int row, int at) {
    return (int64_t{row} * params.width + at) / cuda::kLanes<X>;
  };
  for (int row = blockIdx.x; row < params.num_tokens; row += gridDim.x) {
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int at = (p * blockDim.x + threadIdx.x) * kLanes;
      if (at >= params.width) continue;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        const int64_t i = first_vector(row, at) + v;
        inbox.SendToAll(elements.LoadWhole(i), i);
      }
    }
  }
  inbox.EndTurn();
  for (int row = blockIdx.x; row < params.num_tokens; row += gridDim.x) {
    const int64_t start = int64_t{row} * params.width;
    T* residual = params.residual == nullptr
                      ? nullptr
                      : static_cast<T*>(params.residual) + start;
    float x[kPieces][kLanes], r[kPieces][kLanes];
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int at = (p * blockDim.x + threadIdx.x) * kLanes;
      if (at >= params.width) continue;
      if (residual != nullptr) cuda::Load(residual + at, r[p]);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        const int64_t i = first_vector(row, at) + v;
        uint4 parts[kRanks];
        inbox.TakeFromAll(elements.LoadWhole(i), i, parts);
        float sum[cuda::kLanes<X>];
        peer::Unpack<X>(SumOf<X>(parts, kRanks), sum);
#pragma unroll
        for (int j = 0; j < cuda::kLanes<X>; ++j) {
          x[p][v * cuda::kLanes<X> + j] = sum[j];
        }
      }
    }
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int at = (p * blockDim.x + threadIdx.x) * kLanes;
      if (at >= params.width || residual == nullptr) continue;
      norm::AddResidual(r[p], residual + at, x[p]);
    }
    norm::NormRow<T>(params, x, static_cast<T*>(params.out) + start, shared);
    __syncthreads();  // `shared` again
  }
}

__global__ void __launch_bounds__(kThreads) EmptyInboxKernel(uint4* inbox) {
  constexpr int64_t kVectors = kInboxBytes / kVectorBytes;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < kVectors;
       i += int64_t{gridDim.x} * kThreads) {
    inbox[i] = make_uint4(kEmptyWord, kEmptyWord, kEmptyWord, kEmptyWord);
  }
}

template <typename Launch>
cudaError_t WithRanks(int32_t world_size, const Launch& launch) {
  switch (world_size) {
    case 2:
      return launch(std::integral_constant<int, 2>());
    case 4:
      return launch(std::integral_constant<int, 4>());
    case 8:
      return launch(std::integral_constant<int, 8>());
    default:
      return cudaErrorInvalidValue;
  }
}

dim3 GridFor(const PeerGroup& group, int64_t num_vectors) {
  const int64_t blocks = (num_vectors + kThreads - 1) / kThreads;
  const int64_t most = int64_t{group.num_sms} * kBlocksPerSm;
  return dim3(static_cast<unsigned>(blocks < most ? blocks : most));
}

int64_t NumVectors(int64_t n, DType dtype) {
  return (n * SizeOf(dtype) + kVectorBytes - 1) / kVectorBytes;
}

template <typename X, typename T, int kRanks>
cudaError_t OneShotNorm(const PeerGroup& group, const NormParams& params,
                        cudaStream_t stream) {
  const int threads = norm::ThreadsFor<T>(params.width);
  const int most = group.num_sms * (norm::kMaxThreads / threads);
  const dim3 grid(params.num_tokens < most ? params.num_tokens : most);
  const auto launch = [&]<int kPieces>(std::integral_constant<int, kPieces>) {
    return LaunchOverlapped(OneShotNormKernel<X, T, kPieces, kRanks>, grid,
                            dim3(threads), 0, stream, group, params);
  };
  switch (norm::PiecesFor<T>(params.width)) {
    case 1:
      return launch(std::integral_constant<int, 1>());
    case 2:
      return launch(std::integral_constant<int, 2>());
    default:
      return launch(std::integral_constant<int, 4>());
  }
}

}  // namespace

cudaError_t LaunchEmptyInboxCuda(void* inbox, cudaStream_t stream) {
  EmptyInboxKernel<<<1024, kThreads, 0, stream>>>(static_cast<uint4*>(inbox));
  return cudaGetLastError();
}

cudaError_t LaunchOneShotCuda(const PeerGroup& group, void* data, int64_t n,
                              DType dtype, cudaStream_t stream) {
  const dim3 grid = GridFor(group, NumVectors(n, dtype));
  return WithRanks(
      group.world_size, [&]<int kRanks>(std::integral_constant<int, kRanks>) {
        return dtype == DType::kF32
                   ? LaunchOverlapped(OneShotKernel<float, kRanks>, grid,
                                      dim3(kThreads), 0, stream, group,
                                      static_cast<float*>(data), n)
                   : LaunchOverlapped(OneShotKernel<Bf16, kRanks>, grid,
                                      dim3(kThreads), 0, stream, group,
                                      static_cast<Bf16*>(data), n);
      });
}

cudaError_t LaunchTwoShotCuda(const PeerGroup& group, void* data, int64_t n,
                              DType dtype, cudaStream_t stream) {
  const int64_t vectors = NumVectors(n, dtype);
  if (vectors < MinTwoShotVectors(group.world_size)) {
    return LaunchOneShotCuda(group, data, n, dtype, stream);
  }
  const dim3 grid =
      GridFor(group, SliceOf(vectors, /*rank=*/0, group.world_size).size());
  return WithRanks(
      group.world_size, [&]<int kRanks>(std::integral_constant<int, kRanks>) {
        return dtype == DType::kF32
                   ? LaunchOverlapped(TwoShotKernel<float, kRanks>, grid,
                                      dim3(kThreads), 0, stream, group,
                                      static_cast<float*>(data), n)
                   : LaunchOverlapped(TwoShotKernel<Bf16, kRanks>, grid,
                                      dim3(kThreads), 0, stream, group,
                                      static_cast<Bf16*>(data), n);
      });
}

bool CanReduceAndNorm(int32_t world_size, const NormParams& params,
                      DType dtype) {
  const int64_t bytes =
      int64_t{params.num_tokens} * params.width * SizeOf(params.x_dtype);
  const bool is_whole = dtype == DType::kF32
                            ? params.x_dtype == DType::kF32 &&
                                  norm::PiecesFor<float>(params.width) > 0 &&
                                  norm::IsAligned<float>(params)
                            : norm::PiecesFor<Bf16>(params.width) > 0 &&
                                  norm::IsAligned<Bf16>(params);
  return is_whole && params.rows_per_group == 0 && params.num_tokens > 0 &&
         bytes <= MaxOneShotBytes(world_size);
}

cudaError_t LaunchOneShotNormCuda(const PeerGroup& group,
                                  const NormParams& params, DType dtype,
                                  cudaStream_t stream) {
  return WithRanks(
      group.world_size, [&]<int kRanks>(std::integral_constant<int, kRanks>) {
        if (dtype == DType::kF32) {
          return OneShotNorm<float, float, kRanks>(group, params, stream);
        }
        return params.x_dtype == DType::kF32
                   ? OneShotNorm<float, Bf16, kRanks>(group, params, stream)
                   : OneShotNorm<Bf16, Bf16, kRanks>(group, params, stream);
      });
}

cudaError_t LaunchPeerGatherCuda(const PeerGroup& group, const uint32_t* in,
                                 uint32_t* out, int64_t num_words,
                                 cudaStream_t stream) {
  const dim3 grid = GridFor(group, (num_words + 3) / 4);
  return WithRanks(
      group.world_size, [&]<int kRanks>(std::integral_constant<int, kRanks>) {
        return LaunchOverlapped(GatherKernel<kRanks>, grid, dim3(kThreads), 0,
                                stream, group, in, out, num_words);
      });
}

}  // namespace quire
