// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "cuda_runtime.h"
#include "tests/kernels/cuda/count_different.h"

namespace quire {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 1056;

void Check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  std::abort();
}

__global__ void CountKernel(const uint32_t* a, const uint32_t* b,
                            int64_t num_words, unsigned long long* count) {
  unsigned long long mine = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < num_words;
       i += int64_t{kBlocks} * kThreads) {
    mine += a[i] != b[i];
  }
  if (mine > 0) atomicAdd(count, mine);
}

__global__ void FillKernel(__nv_bfloat16* array, int64_t count, uint32_t seed) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += int64_t{kBlocks} * kThreads) {
    uint64_t x = (static_cast<uint64_t>(seed) << 40) + static_cast<uint64_t>(i);
    x = (x ^ x >> 31) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 27) * 0xbf58476d1ce4e5b9u;
    x ^= x >> 33;
    array[i] = __float2bfloat16_rn(static_cast<float>(static_cast<int32_t>(x)) *
                                   0x1p-31f);
  }
}

}  // namespace

int64_t CountDifferentWords(const void* a, const void* b, int64_t num_words) {
  unsigned long long* count = nullptr;
  unsigned long long found = 0;
  Check(cudaMalloc(&count, sizeof(*count)));
  Check(cudaMemset(count, 0, sizeof(*count)));
  CountKernel<<<kBlocks, kThreads>>>(static_cast<const uint32_t*>(a),
                                     static_cast<const uint32_t*>(b), num_words,
                                     count);
  Check(cudaMemcpy(&found, count, sizeof(found), cudaMemcpyDeviceToHost));
  Check(cudaFree(count));
  return static_cast<int64_t>(found);
}

void FillWithRandomBf16(void* array, int64_t count, uint32_t seed) {
  FillKernel<<<kBlocks, kThreads>>>(static_cast<__nv_bfloat16*>(array), count,
                                    seed);
  Check(cudaDeviceSynchronize());
}

}  // namespace quire
