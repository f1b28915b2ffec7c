// SPDX-License-Identifier: Apache-2.0
//
// A rank that has a GPU, a stream and some device memory, in a thread of its
// own. What allocates while sums are on their way needs processes instead:
// rank_processes.h.
#ifndef TESTS_WORKER_COLLECTIVE_GPU_RANK_H_
#define TESTS_WORKER_COLLECTIVE_GPU_RANK_H_

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "kernels/cuda/cuda_memory.h"
#include "tests/worker/collective/memory_board.h"
#include "worker/collective/collective.h"
#include "worker/collective/registry.h"

#define QUIRE_CHECK_CUDA(call) CHECK_EQ(call, cudaSuccess) << #call

namespace quire {

inline int32_t NumGpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

// The same, up to 100, as seen by a child: this process may fork on, as CUDA
// does not survive forking.
inline int32_t NumGpusOfMachine() {
  const pid_t child = fork();
  if (child == 0) _exit(std::min(NumGpus(), 100));
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

struct GpuRank {
  std::unique_ptr<Collective> ranks;
  cudaStream_t stream = nullptr;
  std::unique_ptr<DeviceBuffer> buffer;

  template <typename T>
  void Upload(const std::vector<T>& data) {
    QUIRE_CHECK_CUDA(cudaMemcpyAsync(buffer->data(), data.data(),
                                     data.size() * sizeof(T),
                                     cudaMemcpyHostToDevice, stream));
  }
  template <typename T>
  std::vector<T> Download(int64_t n) {
    std::vector<T> data(n);
    QUIRE_CHECK_CUDA(cudaMemcpyAsync(data.data(), buffer->data(), n * sizeof(T),
                                     cudaMemcpyDeviceToHost, stream));
    QUIRE_CHECK_CUDA(cudaStreamSynchronize(stream));
    return data;
  }
};

// Runs `body` on ranks [0, world), each in its thread and on its GPU, with
// `bytes` of its memory, joined by the collective of that name.
// REQUIRES: NumGpus() >= world.
inline void OnEveryGpu(int32_t world, int64_t bytes,
                       const CollectiveOptions& common,
                       const std::function<void(GpuRank&)>& body,
                       const std::string& name = "nccl") {
  MemoryBoard board;
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      GpuRank own;
      QUIRE_CHECK_CUDA(cudaSetDevice(rank));
      QUIRE_CHECK_CUDA(
          cudaStreamCreateWithFlags(&own.stream, cudaStreamNonBlocking));
      own.buffer = *AllocateCuda(bytes);
      CollectiveOptions options = common;
      options.rank = rank;
      options.world_size = world;
      options.num_local_ranks = world;
      options.gpu = rank;
      options.stream = own.stream;
      auto ranks = CreateCollective(name, options, &board);
      CHECK(ranks.ok()) << ranks.status();
      own.ranks = *std::move(ranks);
      body(own);
      own.ranks.reset();
      own.buffer.reset();
      QUIRE_CHECK_CUDA(cudaStreamDestroy(own.stream));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace quire

#endif  // TESTS_WORKER_COLLECTIVE_GPU_RANK_H_
