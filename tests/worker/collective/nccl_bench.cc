// SPDX-License-Identifier: Apache-2.0
//
// What an all-reduce over all GPUs of this machine costs, by size: the host's
// time to enqueue one, and the device's, in a row and replayed from a graph.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "tests/worker/collective/gpu_rank.h"
#include "worker/collective/nccl.h"

namespace quire {
namespace {

constexpr int kCalls = 20;
constexpr int kRounds = 15;
constexpr int64_t kLargest = 64 << 20;

template <typename Run>
double MedianDeviceUs(cudaStream_t stream, Run run) {
  cudaEvent_t begin, end;
  QUIRE_CHECK_CUDA(cudaEventCreate(&begin));
  QUIRE_CHECK_CUDA(cudaEventCreate(&end));
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    QUIRE_CHECK_CUDA(cudaEventRecord(begin, stream));
    run();
    QUIRE_CHECK_CUDA(cudaEventRecord(end, stream));
    QUIRE_CHECK_CUDA(cudaStreamSynchronize(stream));
    float ms = 0;
    QUIRE_CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
    times.push_back(ms * 1000 / kCalls);
  }
  QUIRE_CHECK_CUDA(cudaEventDestroy(begin));
  QUIRE_CHECK_CUDA(cudaEventDestroy(end));
  std::sort(times.begin(), times.end());
  return times[kRounds / 2];
}

void Measure(GpuRank& own, int64_t bytes) {
  double enqueue_us = 0;
  const auto reduce = [&] {
    const auto start = std::chrono::steady_clock::now();
    for (int call = 0; call < kCalls; ++call) {
      CHECK(own.ranks->AllReduceSum(own.buffer->data(), bytes / 2, DType::kBf16)
                .ok());
    }
    enqueue_us = std::chrono::duration<double, std::micro>(
                     std::chrono::steady_clock::now() - start)
                     .count() /
                 kCalls;
  };
  reduce();  // warm
  QUIRE_CHECK_CUDA(cudaStreamSynchronize(own.stream));
  const double eager_us = MedianDeviceUs(own.stream, reduce);
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  QUIRE_CHECK_CUDA(
      cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeThreadLocal));
  reduce();
  QUIRE_CHECK_CUDA(cudaStreamEndCapture(own.stream, &graph));
  QUIRE_CHECK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
  const double graph_us = MedianDeviceUs(own.stream, [&] {
    QUIRE_CHECK_CUDA(cudaGraphLaunch(replay, own.stream));
  });
  QUIRE_CHECK_CUDA(cudaGraphExecDestroy(replay));
  QUIRE_CHECK_CUDA(cudaGraphDestroy(graph));
  if (own.ranks->rank() != 0) return;
  std::printf("%8lld KB  enqueue %7.1f us  eager %7.1f us  graph %7.1f us\n",
              static_cast<long long>(bytes >> 10), enqueue_us, eager_us,
              graph_us);
}

void Main() {
  PrepareNcclEnvironment("127.0.0.1");
  const int32_t world = NumGpus();
  if (world < 2) {
    std::printf("all-reduce: two GPUs are wanted, %d\n", world);
    return;
  }
  for (bool is_deterministic : {false, true}) {
    if (is_deterministic && world == 2) continue;  // the same
    std::printf("all-reduce of bf16 over %d GPUs%s\n", world,
                is_deterministic ? ", in rank order" : "");
    CollectiveOptions options;
    options.is_deterministic = is_deterministic;
    OnEveryGpu(world, kLargest, options, [](GpuRank& own) {
      QUIRE_CHECK_CUDA(cudaMemset(own.buffer->data(), 0x3c, kLargest));
      for (int64_t bytes = 8 << 10; bytes <= kLargest; bytes *= 2) {
        Measure(own, bytes);
      }
    });
  }
}

}  // namespace
}  // namespace quire

int main() { quire::Main(); }
