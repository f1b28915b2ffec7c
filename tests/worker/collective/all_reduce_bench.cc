// SPDX-License-Identifier: Apache-2.0
//
// Sums over two, four and eight GPUs of this machine, by size, replayed from
// graphs: NCCL, our own kernels one by one, and what the group chose for
// itself; then with the norm in the same kernel and after it.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kernels/cuda/all_reduce.h"
#include "kernels/cuda/norm.h"
#include "tests/worker/collective/gpu_rank.h"
#include "worker/collective/nccl.h"
#include "worker/collective/peer_memory.h"

namespace quire {
namespace {

constexpr int kCalls = 20;
constexpr int kRounds = 15;
constexpr int64_t kLargest = 64 << 20;

// The median of a graph of kCalls, in us a call. All ranks call it.
template <typename Run>
double GraphUs(cudaStream_t stream, const Run& run) {
  run();  // connects what is connected late
  QUIRE_CHECK_CUDA(cudaStreamSynchronize(stream));
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  QUIRE_CHECK_CUDA(
      cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int call = 0; call < kCalls; ++call) run();
  QUIRE_CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
  QUIRE_CHECK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
  cudaEvent_t begin, end;
  QUIRE_CHECK_CUDA(cudaEventCreate(&begin));
  QUIRE_CHECK_CUDA(cudaEventCreate(&end));
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    QUIRE_CHECK_CUDA(cudaGraphLaunch(replay, stream));  // lets the ranks meet
    QUIRE_CHECK_CUDA(cudaEventRecord(begin, stream));
    QUIRE_CHECK_CUDA(cudaGraphLaunch(replay, stream));
    QUIRE_CHECK_CUDA(cudaEventRecord(end, stream));
    QUIRE_CHECK_CUDA(cudaStreamSynchronize(stream));
    float ms = 0;
    QUIRE_CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
    times.push_back(ms * 1000 / kCalls);
  }
  QUIRE_CHECK_CUDA(cudaEventDestroy(begin));
  QUIRE_CHECK_CUDA(cudaEventDestroy(end));
  QUIRE_CHECK_CUDA(cudaGraphExecDestroy(replay));
  QUIRE_CHECK_CUDA(cudaGraphDestroy(graph));
  std::sort(times.begin(), times.end());
  return times[kRounds / 2];
}

// One rank's everything.
struct Bench {
  GpuRank& own;  // joined by NCCL
  Collective& chosen;
  const PeerMemory& memory;

  void Sums() const;
  void Norms() const;
};

void Bench::Sums() const {
  const bool speaks = own.ranks->rank() == 0;
  const int32_t world = own.ranks->world_size();
  if (speaks) {
    std::printf(
        "all-reduce of bf16 over %d GPUs, us in a graph\n"
        "%9s %8s %8s %8s %8s  NCCL / chosen\n",
        world, "bytes", "NCCL", "one shot", "two", "chosen");
  }
  double log_sum = 0;
  int num_small = 0;
  void* data = own.buffer->data();
  for (int64_t bytes = 8 << 10; bytes <= kLargest; bytes *= 2) {
    const int64_t n = bytes / 2;
    const auto collective_us = [&](Collective& ranks) {
      return GraphUs(own.stream, [&] {
        CHECK(ranks.AllReduceSum(data, n, DType::kBf16).ok());
      });
    };
    const auto launched_us = [&](auto launch, int64_t most) {
      if (bytes > most) return 0.0;
      return GraphUs(own.stream, [&] {
        QUIRE_CHECK_CUDA(
            launch(memory.group(), data, n, DType::kBf16, own.stream));
      });
    };
    const double nccl = collective_us(*own.ranks);
    const double one = launched_us(LaunchOneShotCuda, MaxOneShotBytes(world));
    const double two = launched_us(LaunchTwoShotCuda, MaxTwoShotBytes());
    const double chosen_us = collective_us(chosen);
    if (bytes <= 512 << 10) {
      log_sum += std::log(nccl / chosen_us);
      ++num_small;
    }
    if (speaks) {
      std::printf("%6lld KB %8.1f %8.1f %8.1f %8.1f  %.2f\n",
                  static_cast<long long>(bytes >> 10), nccl, one, two,
                  chosen_us, nccl / chosen_us);
    }
  }
  if (speaks) {
    std::printf("geometric mean of NCCL / chosen, 8 to 512 KB: %.2f\n",
                std::exp(log_sum / num_small));
  }
}

void Bench::Norms() const {
  const bool speaks = own.ranks->rank() == 0;
  if (speaks) {
    std::printf(
        "sum, residual and RMS norm of rows of 4096 bf16, us\n"
        "%6s %8s %8s  ratio\n",
        "rows", "two", "fused");
  }
  char* base = own.buffer->as<char>();
  constexpr int64_t kPlace = 8 << 20;
  for (int rows : {1, 2, 4, 8, 16, 32, 64, 128, 256}) {
    NormParams norm = {};
    norm.kind = NormKind::kRms;
    norm.x = base;
    norm.x_dtype = DType::kBf16;
    norm.residual = base + kPlace;
    norm.weight = base + 2 * kPlace;
    norm.out = base + 3 * kPlace;
    norm.epsilon = 1e-5f;
    norm.width = 4096;
    norm.num_tokens = rows;
    const double apart = GraphUs(own.stream, [&] {
      CHECK(chosen.AllReduceSum(base, int64_t{rows} * 4096, DType::kBf16).ok());
      QUIRE_CHECK_CUDA(LaunchNormCuda(norm, DType::kBf16, own.stream));
    });
    const double fused = GraphUs(own.stream, [&] {
      QUIRE_CHECK_CUDA(LaunchOneShotNormCuda(memory.group(), norm, DType::kBf16,
                                             own.stream));
    });
    if (speaks) {
      std::printf("%6d %8.2f %8.2f  %.2f\n", rows, apart, fused, apart / fused);
    }
  }
}

void RunRanks(int32_t world) {
  MemoryBoard chosen_board, memory_board;
  OnEveryGpu(world, kLargest, CollectiveOptions(), [&](GpuRank& own) {
    // Numbers near 1 that double with each call would overflow; zeros would
    // flatter. Tiny numbers grow for a while.
    QUIRE_CHECK_CUDA(cudaMemset(own.buffer->data(), 0x05, kLargest));
    CollectiveOptions options;
    options.rank = own.ranks->rank();
    options.world_size = world;
    options.num_local_ranks = world;
    options.gpu = options.rank;
    options.stream = own.stream;
    const auto chosen = CreateCollective("auto", options, &chosen_board);
    CHECK(chosen.ok()) << chosen.status();
    PeerMemoryOptions memory_options;
    memory_options.rank = options.rank;
    memory_options.world_size = world;
    memory_options.device = options.rank;
    const auto cards = ExchangeCards(memory_options, &memory_board);
    CHECK(cards.ok()) << cards.status();
    const auto memory = PeerMemory::Connect(memory_options, *cards,
                                            &memory_board, own.ranks.get());
    CHECK(memory.ok()) << memory.status();
    const Bench bench = {own, **chosen, **memory};
    bench.Sums();
    bench.Norms();
    QUIRE_CHECK_CUDA(cudaStreamSynchronize(own.stream));
    CHECK(own.ranks->Barrier().ok());
  });
}

void Main() {
  PrepareNcclEnvironment("127.0.0.1");
  const int32_t num_gpus = NumGpus();
  for (const int32_t world : {2, 4, 8}) {
    if (world > num_gpus) {
      std::printf("all-reduce over %d GPUs: skipped, there are %d\n", world,
                  num_gpus);
      continue;
    }
    RunRanks(world);
  }
}

}  // namespace
}  // namespace quire

int main() { quire::Main(); }
