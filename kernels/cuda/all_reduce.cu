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

// `kIsSent`: products have sent what peers are to have of it.
template <typename T, int kRanks, bool kIsSent>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    OneShotKernel(const __grid_constant__ PeerGroup group, T* data, int64_t n) {
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const Inbox<kRanks> inbox(group);
  const peer::Elements<T> elements = {data, n};
  const int64_t step = int64_t{gridDim.x} * kThreads;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (int64_t i = first; !kIsSent && i < elements.num_vectors(); i += step) {
    inbox.SendToAll(elements.Load(i), i);
  }
  const uint32_t num_before = inbox.Arrive();
  for (int64_t i = first; i < elements.num_vectors(); i += step) {
    uint4 parts[kRanks];
    inbox.TakeFromAll(elements.Load(i), i, parts);
    elements.Store(SumOf<T>(parts, kRanks), i);
  }
  inbox.EndTurn(num_before);
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
  const uint32_t num_before = inbox.Arrive();
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
  inbox.EndTurn(num_before);
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
  const uint32_t num_before = inbox.Arrive();
  for (int64_t i = first; i < own.num_vectors(); i += step) {
    uint4 parts[kRanks];
    inbox.TakeFromAll(own.Load(i), i, parts);
#pragma unroll
    for (int r = 0; r < kRanks; ++r) {
      peer::Elements<uint32_t>{out + r * num_words, num_words}.Store(parts[r],
                                                                     i);
    }
  }
  inbox.EndTurn(num_before);
}

// A thread's vectors of a row of X, as many of T's as pieces.
template <typename X, typename T, int kPieces>
struct RowVectors {
  static constexpr int kLanes = cuda::kLanes<T>;
  static constexpr int kEach = kLanes / cuda::kLanes<X>;  // of a piece
  static constexpr int kCount = kPieces * kEach;

  // The k-th one's first element, or the width: it has none.
  static __device__ __forceinline__ int ElementOf(int k, int width) {
    const int at = (k / kEach * blockDim.x + threadIdx.x) * kLanes;
    return at < width ? at + k % kEach * cuda::kLanes<X> : width;
  }
};

// A block a row, as the norm alone has it. `is_sent`: products have sent what
// peers are to have of it, and what peers sent is looked for at once, by a
// guess whose turn it is.
template <typename X, typename T, int kPieces, int kRanks, int kMaxThreads>
__global__ void __launch_bounds__(kMaxThreads)
    OneShotNormKernel(const __grid_constant__ PeerGroup group,
                      const __grid_constant__ NormParams params, bool is_sent) {
  using Vectors = RowVectors<X, T, kPieces>;
  constexpr int kLanes = cuda::kLanes<T>;
  constexpr int kMost = kRanks == 2 ? 4 : 2;  // a thread, at a time
  constexpr int kAtOnce = kMost < Vectors::kCount ? kMost : Vectors::kCount;
  __shared__ float shared[cuda::kWarp];
  LetNextKernelBegin();
  norm::Weights<T, kPieces> weights;
  weights.Load(params);
  const uint32_t guess = peer::LoadTurn(group);
  WaitForEarlierKernels();
  Inbox<kRanks> inbox(group, guess);
  if (!is_sent) inbox.Confirm();
  const peer::Elements<X> elements = {
      static_cast<X*>(const_cast<void*>(params.x)),
      int64_t{params.num_tokens} * params.width};
  const auto vector_of = [&](int row, int k) {
    const int at = Vectors::ElementOf(k, params.width);
    return at < params.width
               ? (int64_t{row} * params.width + at) / cuda::kLanes<X>
               : int64_t{-1};
  };
  for (int row = blockIdx.x; !is_sent && row < params.num_tokens;
       row += gridDim.x) {
    uint4 own[Vectors::kCount];
#pragma unroll
    for (int k = 0; k < Vectors::kCount; ++k) {
      const int64_t i = vector_of(row, k);
      if (i >= 0) own[k] = elements.LoadWhole(i);
    }
#pragma unroll
    for (int k = 0; k < Vectors::kCount; ++k) {
      const int64_t i = vector_of(row, k);
      if (i >= 0) inbox.SendToAll(own[k], i);
    }
  }
  uint32_t num_before = 0;
  for (int row = blockIdx.x; row < params.num_tokens; row += gridDim.x) {
    const bool is_first_row = row == blockIdx.x;
    const int64_t start = int64_t{row} * params.width;
    T* residual = params.residual == nullptr
                      ? nullptr
                      : static_cast<T*>(params.residual) + start;
    float x[kPieces][kLanes], r[kPieces][kLanes];
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int at = (p * blockDim.x + threadIdx.x) * kLanes;
      if (at < params.width && residual != nullptr) {
        cuda::Load(residual + at, r[p]);
      }
    }
#pragma unroll
    for (int k = 0; k < Vectors::kCount; k += kAtOnce) {
      uint4 parts[kAtOnce][kRanks];
      const auto start = [&] {
#pragma unroll
        for (int b = 0; b < kAtOnce; ++b) {
          const int64_t i = vector_of(row, k + b);
          if (i < 0) continue;
          inbox.StartFromAll(elements.LoadWhole(i), i, parts[b]);
        }
      };
      start();
      if (is_first_row && k == 0 && !inbox.Confirm()) start();
#pragma unroll
      for (int b = 0; b < kAtOnce; ++b) {
        const int64_t i = vector_of(row, k + b);
        if (i < 0) continue;
        inbox.FinishFromAll(i, parts[b]);
        float sum[cuda::kLanes<X>];
        peer::Unpack<X>(SumOf<X>(parts[b], kRanks), sum);
#pragma unroll
        for (int j = 0; j < cuda::kLanes<X>; ++j) {
          x[(k + b) / Vectors::kEach]
           [(k + b) % Vectors::kEach * cuda::kLanes<X> + j] = sum[j];
        }
      }
    }
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      if (is_first_row && p == 0) num_before = inbox.Arrive();
      const int at = (p * blockDim.x + threadIdx.x) * kLanes;
      if (at >= params.width || residual == nullptr) continue;
      norm::AddResidual(r[p], residual + at, x[p]);
    }
    norm::NormRow<T, kLanes, kPieces>(
        params, x, static_cast<T*>(params.out) + start, shared, &weights);
    __syncthreads();  // `shared` again
  }
  inbox.EndTurn(num_before);
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

template <bool kIsSent>
struct OneShot {
  template <typename T, int kRanks>
  static auto Kernel() {
    return OneShotKernel<T, kRanks, kIsSent>;
  }
};

struct TwoShot {
  template <typename T, int kRanks>
  static auto Kernel() {
    return TwoShotKernel<T, kRanks>;
  }
};

// `num_vectors`: that threads share.
template <typename Way>
cudaError_t LaunchSum(const PeerGroup& group, int64_t num_vectors, void* data,
                      int64_t n, DType dtype, cudaStream_t stream) {
  const dim3 grid = GridFor(group, num_vectors);
  return WithRanks(
      group.world_size, [&]<int kRanks>(std::integral_constant<int, kRanks>) {
        const auto launch = [&]<typename T>(T* typed) {
          return LaunchOverlapped(Way::template Kernel<T, kRanks>(), grid,
                                  dim3(kThreads), 0, stream, group, typed, n);
        };
        return dtype == DType::kF32 ? launch(static_cast<float*>(data))
                                    : launch(static_cast<Bf16*>(data));
      });
}

// As many blocks as run at once, at most one a row.
template <typename Kernel>
cudaError_t LaunchRows(Kernel kernel, const PeerGroup& group,
                       const NormParams& params, bool is_sent, int threads,
                       cudaStream_t stream) {
  int per_sm = 0;
  const cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      &per_sm, kernel, threads, /*dynamicSMemSize=*/0);
  if (error != cudaSuccess) return error;
  const int most = group.num_sms * per_sm;
  const dim3 grid(params.num_tokens < most ? params.num_tokens : most);
  return LaunchOverlapped(kernel, grid, dim3(threads), 0, stream, group, params,
                          is_sent);
}

template <typename X, typename T, int kRanks>
cudaError_t OneShotNorm(const PeerGroup& group, const NormParams& params,
                        bool is_sent, cudaStream_t stream) {
  // Fewer threads may have more registers each.
  constexpr int kFew = norm::kMaxThreads / 2;
  const int threads = norm::ThreadsFor<T>(params.width);
  const auto launch = [&](auto kernel) {
    return LaunchRows(kernel, group, params, is_sent, threads, stream);
  };
  switch (norm::PiecesFor<T>(params.width)) {
    case 1:
      return launch(OneShotNormKernel<X, T, 1, kRanks, kFew>);
    case 2:
      return threads <= kFew
                 ? launch(OneShotNormKernel<X, T, 2, kRanks, kFew>)
                 : launch(
                       OneShotNormKernel<X, T, 2, kRanks, norm::kMaxThreads>);
    default:
      return launch(OneShotNormKernel<X, T, 4, kRanks, norm::kMaxThreads>);
  }
}

}  // namespace

cudaError_t LaunchEmptyInboxCuda(void* inbox, cudaStream_t stream) {
  EmptyInboxKernel<<<1024, kThreads, 0, stream>>>(static_cast<uint4*>(inbox));
  return cudaGetLastError();
}

cudaError_t LaunchOneShotCuda(const PeerGroup& group, void* data, int64_t n,
                              DType dtype, cudaStream_t stream) {
  return LaunchSum<OneShot<false>>(group, NumVectors(n, dtype), data, n, dtype,
                                   stream);
}

cudaError_t LaunchSumSentCuda(const PeerGroup& group, void* data, int64_t n,
                              DType dtype, cudaStream_t stream) {
  return LaunchSum<OneShot<true>>(group, NumVectors(n, dtype), data, n, dtype,
                                  stream);
}

cudaError_t LaunchTwoShotCuda(const PeerGroup& group, void* data, int64_t n,
                              DType dtype, cudaStream_t stream) {
  const int64_t vectors = NumVectors(n, dtype);
  if (vectors < MinTwoShotVectors(group.world_size)) {
    return LaunchOneShotCuda(group, data, n, dtype, stream);
  }
  const VectorSlice largest = SliceOf(vectors, /*rank=*/0, group.world_size);
  return LaunchSum<TwoShot>(group, largest.size(), data, n, dtype, stream);
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
                                  cudaStream_t stream, bool is_sent) {
  return WithRanks(group.world_size, [&]<int kRanks>(
                                         std::integral_constant<int, kRanks>) {
    if (dtype == DType::kF32) {
      return OneShotNorm<float, float, kRanks>(group, params, is_sent, stream);
    }
    return params.x_dtype == DType::kF32 ? OneShotNorm<float, Bf16, kRanks>(
                                               group, params, is_sent, stream)
                                         : OneShotNorm<Bf16, Bf16, kRanks>(
                                               group, params, is_sent, stream);
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
