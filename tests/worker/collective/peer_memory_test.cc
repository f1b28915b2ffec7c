// SPDX-License-Identifier: Apache-2.0
//
// The kernels that sum over GPUs, on all GPUs of this machine, a thread each.
// Skipped on a machine with fewer than two.
#include "worker/collective/peer_memory.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/norm.h"
#include "tests/worker/collective/gpu_rank.h"
#include "tests/worker/collective/rank_threads.h"
#include "worker/collective/local.h"
#include "worker/collective/rank_sum.h"

namespace quire {
namespace {

constexpr int64_t kBytes = 96 << 20;

struct Peer {
  int32_t rank;
  int32_t world;
  cudaStream_t stream = nullptr;
  std::unique_ptr<DeviceBuffer> buffer;  // kBytes
  std::unique_ptr<PeerMemory> memory;
  Collective* host;

  const PeerGroup& group() const { return memory->group(); }
  void Sync() { QUIRE_CHECK_CUDA(cudaStreamSynchronize(stream)); }
  template <typename T>
  void Upload(const std::vector<T>& data, int64_t at = 0) {
    QUIRE_CHECK_CUDA(cudaMemcpyAsync(buffer->as<char>() + at, data.data(),
                                     data.size() * sizeof(T),
                                     cudaMemcpyHostToDevice, stream));
    Sync();
  }
  template <typename T>
  std::vector<T> Download(int64_t n, int64_t at = 0) {
    std::vector<T> data(n);
    QUIRE_CHECK_CUDA(cudaMemcpyAsync(data.data(), buffer->as<char>() + at,
                                     n * sizeof(T), cudaMemcpyDeviceToHost,
                                     stream));
    Sync();
    return data;
  }
};

int32_t MostRanks() {
  const int32_t gpus = NumGpus();
  return gpus >= 8 ? 8 : gpus >= 4 ? 4 : gpus >= 2 ? 2 : 1;
}

#define SKIP_BELOW_TWO_GPUS() \
  if (MostRanks() < 2) GTEST_SKIP() << "two GPUs are wanted, " << NumGpus()

void OnEveryPeer(int32_t world, const std::function<void(Peer&)>& body,
                 absl::Duration timeout = absl::Seconds(20)) {
  MemoryBoard board;
  LocalGroup hosts(world);
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      Peer own;
      own.rank = rank;
      own.world = world;
      own.host = hosts.collective(rank);
      QUIRE_CHECK_CUDA(cudaSetDevice(rank));
      QUIRE_CHECK_CUDA(
          cudaStreamCreateWithFlags(&own.stream, cudaStreamNonBlocking));
      own.buffer = *AllocateCuda(kBytes);
      PeerMemoryOptions options;
      options.rank = rank;
      options.world_size = world;
      options.device = rank;
      options.operation_timeout = timeout;
      const auto cards = ExchangeCards(options, &board);
      ASSERT_TRUE(cards.ok()) << cards.status();
      auto memory = PeerMemory::Connect(options, *cards, &board, own.host);
      ASSERT_TRUE(memory.ok()) << memory.status();
      own.memory = *std::move(memory);
      body(own);
      own.Sync();
      // Nobody's memory goes while a peer may write to it.
      ASSERT_TRUE(own.host->Barrier().ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

uint16_t ToBf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float FromBf16(uint16_t x) {
  const uint32_t bits = uint32_t{x} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// What rank `rank` brings to a sum: some zeros of either sign among numbers
// whose sum depends on the order of adding.
std::vector<float> Part(int32_t rank, int64_t n, uint64_t seed, bool is_bf16) {
  std::mt19937 random(rank * 7919 + n + seed * 104729);
  std::vector<float> data(n);
  for (float& x : data) {
    const uint32_t word = random();
    x = static_cast<int32_t>(word) * 1e-6f;
    if (word % 16 == 0) x = word % 32 == 0 ? 0.0f : -0.0f;
    if (is_bf16) x = FromBf16(ToBf16(x));
  }
  return data;
}

using Launcher = cudaError_t (*)(const PeerGroup&, void*, int64_t, DType,
                                 cudaStream_t);

// Rank r's parts of all, then the sum in rank order and in double.
struct Expected {
  std::vector<float> in_order;
  std::vector<double> exact;
  std::vector<double> magnitude;
};

Expected Sum(int32_t world, int64_t n, uint64_t seed, bool is_bf16) {
  Expected sum = {std::vector<float>(n), std::vector<double>(n),
                  std::vector<double>(n)};
  for (int32_t rank = 0; rank < world; ++rank) {
    const std::vector<float> part = Part(rank, n, seed, is_bf16);
    for (int64_t i = 0; i < n; ++i) {
      sum.in_order[i] = rank == 0 ? part[i] : sum.in_order[i] + part[i];
      sum.exact[i] += part[i];
      sum.magnitude[i] += std::abs(part[i]);
    }
  }
  return sum;
}

// `at`: bytes from the buffer's start, which is aligned.
void CheckSum(Peer& own, Launcher launch, int64_t n, bool is_bf16, int64_t at,
              uint64_t seed) {
  const std::vector<float> part = Part(own.rank, n, seed, is_bf16);
  const Expected expected = Sum(own.world, n, seed, is_bf16);
  void* data = own.buffer->as<char>() + at;
  std::vector<float> result;
  if (is_bf16) {
    std::vector<uint16_t> words(n);
    for (int64_t i = 0; i < n; ++i) words[i] = ToBf16(part[i]);
    own.Upload(words, at);
    QUIRE_CHECK_CUDA(launch(own.group(), data, n, DType::kBf16, own.stream));
    for (uint16_t x : own.Download<uint16_t>(n, at)) {
      result.push_back(FromBf16(x));
    }
  } else {
    own.Upload(part, at);
    QUIRE_CHECK_CUDA(launch(own.group(), data, n, DType::kF32, own.stream));
    result = own.Download<float>(n, at);
  }
  int64_t num_wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    // One rounding for each addition, and one to bf16.
    const double tolerance =
        expected.magnitude[i] * own.world * 0x1p-24 +
        (is_bf16 ? std::abs(expected.exact[i]) * 0x1p-8 : 0);
    const float bits =
        is_bf16 ? FromBf16(ToBf16(expected.in_order[i])) : expected.in_order[i];
    if (std::abs(result[i] - expected.exact[i]) > tolerance ||
        result[i] != bits) {
      if (num_wrong++ == 0) {
        ADD_FAILURE() << own.world << " ranks, " << n << " elements at " << at
                      << (is_bf16 ? " bf16" : " f32") << ": [" << i << "] is "
                      << result[i] << ", not " << bits;
      }
    }
  }
  ASSERT_EQ(num_wrong, 0);
}

TEST(PeerMemoryTest, SumsAreThoseInRankOrder) {
  SKIP_BELOW_TWO_GPUS();
  for (int32_t world = 2; world <= MostRanks(); world *= 2) {
    OnEveryPeer(world, [](Peer& own) {
      uint64_t seed = 0;
      for (const Launcher launch : {LaunchOneShotCuda, LaunchTwoShotCuda}) {
        for (const bool is_bf16 : {false, true}) {
          for (const int64_t n : {1, 2, 7, 8, 9, 63, 64, 65, 511, 4096, 4097,
                                  65535, 262145, 500000}) {
            CheckSum(own, launch, n, is_bf16, /*at=*/0, ++seed);
            CheckSum(own, launch, n, is_bf16, /*at=*/4, ++seed);
          }
          const int64_t most =
              (launch == LaunchOneShotCuda ? MaxOneShotBytes(own.world)
                                           : MaxTwoShotBytes()) /
              (is_bf16 ? 2 : 4);
          CheckSum(own, launch, most, is_bf16, /*at=*/0, ++seed);
        }
      }
      EXPECT_EQ(own.memory->outcome(), kPeersFine);
    });
  }
}

// Every element of every call is checked. Both ways take turns in the same
// inboxes, and ranks pause at random.
TEST(PeerMemoryTest, AHundredThousandCallsInARowByRanksThatDawdle) {
  SKIP_BELOW_TWO_GPUS();
  constexpr int kBatches = 500;
  constexpr int kCalls = 200;  // of a batch, each with a place of its own
  constexpr int64_t kPlace = 8192;
  OnEveryPeer(MostRanks(), [](Peer& own) {
    std::mt19937 sizes(1), pauses(own.rank + 2);
    std::vector<float> mine(kCalls * kPlace), sum(kCalls * kPlace);
    for (size_t i = 0; i < mine.size(); ++i) {
      // Whole numbers, so that sums are exact.
      const float x = static_cast<float>(i % 1009);
      mine[i] = x + 3 * own.rank;
      sum[i] = own.world * x + 3 * own.world * (own.world - 1) / 2;
    }
    float* data = own.buffer->as<float>();
    for (int batch = 0; batch < kBatches; ++batch) {
      own.Upload(mine);
      std::vector<int64_t> lengths;
      for (int call = 0; call < kCalls; ++call) {
        const uint32_t word = sizes();
        lengths.push_back(1 + word % kPlace);
        const Launcher launch =
            word >> 16 & 1 ? LaunchOneShotCuda : LaunchTwoShotCuda;
        if (pauses() % 64 == 0) {
          const auto end = std::chrono::steady_clock::now() +
                           std::chrono::microseconds(pauses() % 200);
          while (std::chrono::steady_clock::now() < end) {
          }
        }
        QUIRE_CHECK_CUDA(launch(own.group(), data + call * kPlace,
                                lengths.back(), DType::kF32, own.stream));
      }
      const auto result = own.Download<float>(kCalls * kPlace);
      for (int call = 0; call < kCalls; ++call) {
        for (int64_t i = call * kPlace; i < (call + 1) * kPlace; ++i) {
          const bool is_summed = i - call * kPlace < lengths[call];
          ASSERT_EQ(result[i], is_summed ? sum[i] : mine[i])
              << "batch " << batch << ", call " << call << ", " << i;
        }
      }
    }
    EXPECT_EQ(own.memory->outcome(), kPeersFine);
  });
}

// Calls in graphs, which replay with whatever turn it is: an odd number a
// graph, and calls outside between.
TEST(PeerMemoryTest, AGraphReplaysWhatItCaptured) {
  SKIP_BELOW_TWO_GPUS();
  OnEveryPeer(MostRanks(), [](Peer& own) {
    constexpr int64_t kElements = 5000;
    const auto reduce = [&](Launcher launch) {
      QUIRE_CHECK_CUDA(launch(own.group(), own.buffer->data(), kElements,
                              DType::kF32, own.stream));
    };
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    QUIRE_CHECK_CUDA(
        cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeThreadLocal));
    reduce(LaunchOneShotCuda);
    reduce(LaunchTwoShotCuda);
    reduce(LaunchOneShotCuda);
    QUIRE_CHECK_CUDA(cudaStreamEndCapture(own.stream, &graph));
    QUIRE_CHECK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
    const float world = static_cast<float>(own.world);
    for (int round = 0; round < 300; ++round) {
      own.Upload(std::vector<float>(kElements, 1.0f + own.rank));
      QUIRE_CHECK_CUDA(cudaGraphLaunch(replay, own.stream));
      reduce(LaunchTwoShotCuda);
      const float sum = world * (world + 1) / 2;
      ASSERT_EQ(own.Download<float>(kElements),
                std::vector<float>(kElements, sum * world * world * world));
    }
    QUIRE_CHECK_CUDA(cudaGraphExecDestroy(replay));
    QUIRE_CHECK_CUDA(cudaGraphDestroy(graph));
  });
}

// Bit by bit what the sum and then the norm's own kernel make.
TEST(PeerMemoryTest, TheNormInTheSameKernelChangesNothing) {
  SKIP_BELOW_TWO_GPUS();
  OnEveryPeer(MostRanks(), [](Peer& own) {
    uint64_t seed = 900;
    for (const DType x_dtype : {DType::kBf16, DType::kF32}) {
      for (const NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
        for (const int32_t width : {64, 768, 4096, 5120, 8192, 16384}) {
          for (const int32_t rows : {1, 3, 64, 200}) {
            const int64_t n = int64_t{rows} * width;
            const int64_t x_bytes = n * SizeOf(x_dtype);
            if (x_bytes > MaxOneShotBytes(own.world)) continue;
            char* base = own.buffer->as<char>();
            constexpr int64_t kPlace = 16 << 20;
            const auto upload = [&](const std::vector<float>& values,
                                    DType dtype, int64_t at) {
              if (dtype == DType::kF32) {
                own.Upload(values, at);
                return;
              }
              std::vector<uint16_t> words;
              for (float x : values) words.push_back(ToBf16(x));
              own.Upload(words, at);
            };
            const std::vector<float> part = Part(own.rank, n, ++seed, true);
            const std::vector<float> residual = Part(99, n, seed, true);
            const std::vector<float> weight = Part(98, width, seed, true);
            NormParams norm = {};
            norm.kind = kind;
            norm.x = base;
            norm.x_dtype = x_dtype;
            norm.residual = base + kPlace;
            norm.weight = base + 2 * kPlace;
            norm.bias = kind == NormKind::kLayer ? base + 2 * kPlace : nullptr;
            norm.out = base + 3 * kPlace;
            norm.epsilon = 1e-5f;
            norm.width = width;
            norm.num_tokens = rows;
            ASSERT_TRUE(CanReduceAndNorm(own.world, norm, DType::kBf16));
            std::vector<std::vector<uint16_t>> results;
            for (const bool is_fused : {false, true}) {
              upload(part, x_dtype, 0);
              upload(residual, DType::kBf16, kPlace);
              upload(weight, DType::kBf16, 2 * kPlace);
              if (is_fused) {
                QUIRE_CHECK_CUDA(LaunchOneShotNormCuda(
                    own.group(), norm, DType::kBf16, own.stream));
              } else {
                QUIRE_CHECK_CUDA(LaunchTwoShotCuda(own.group(), base, n,
                                                   x_dtype, own.stream));
                QUIRE_CHECK_CUDA(
                    LaunchNormCuda(norm, DType::kBf16, own.stream));
              }
              results.push_back(own.Download<uint16_t>(n, kPlace));
              results.push_back(own.Download<uint16_t>(n, 3 * kPlace));
            }
            ASSERT_EQ(results[0], results[2]) << width << " x " << rows;
            ASSERT_EQ(results[1], results[3]) << width << " x " << rows;
          }
        }
      }
    }
  });
}

TEST(PeerMemoryTest, GatheringKeepsWordsApart) {
  SKIP_BELOW_TWO_GPUS();
  OnEveryPeer(MostRanks(), [](Peer& own) {
    for (const int64_t n : {1, 3, 4, 5, 1024, 100001}) {
      std::vector<uint32_t> mine(n);
      for (int64_t i = 0; i < n; ++i) mine[i] = own.rank * 1000003 + i;
      own.Upload(mine);
      uint32_t* words = own.buffer->as<uint32_t>();
      QUIRE_CHECK_CUDA(LaunchPeerGatherCuda(own.group(), words,
                                            words + (1 << 20), n, own.stream));
      const auto all = own.Download<uint32_t>(own.world * n, 4 << 20);
      for (int32_t rank = 0; rank < own.world; ++rank) {
        for (int64_t i = 0; i < n; ++i) {
          ASSERT_EQ(all[rank * n + i], rank * 1000003 + i) << n;
        }
      }
    }
  });
}

TEST(PeerMemoryTest, TheHostsWordEndsAWait) {
  SKIP_BELOW_TWO_GPUS();
  OnEveryPeer(2, [](Peer& own) {
    if (own.rank == 1) return;  // lives, and takes no part
    own.Upload(std::vector<float>(100000, 1.0f));
    for (int call = 0; call < 3; ++call) {
      QUIRE_CHECK_CUDA(LaunchOneShotCuda(own.group(), own.buffer->data(),
                                         100000, DType::kF32, own.stream));
    }
    ASSERT_EQ(cudaStreamQuery(own.stream), cudaErrorNotReady);
    own.memory->Abort();
    own.Sync();
    EXPECT_EQ(own.memory->outcome(), kPeersAborted);
    // Nothing waits any more, either way.
    QUIRE_CHECK_CUDA(LaunchTwoShotCuda(own.group(), own.buffer->data(), 100000,
                                       DType::kF32, own.stream));
    own.Sync();
  });
}

TEST(PeerMemoryTest, ASilentPeerIsWaitedForNoLongerThanTheLimit) {
  SKIP_BELOW_TWO_GPUS();
  OnEveryPeer(
      2,
      [](Peer& own) {
        if (own.rank == 1) return;
        QUIRE_CHECK_CUDA(LaunchTwoShotCuda(own.group(), own.buffer->data(),
                                           1000000, DType::kF32, own.stream));
        own.Sync();
        EXPECT_EQ(own.memory->outcome(), kPeerSilent);
      },
      absl::Milliseconds(200));
}

}  // namespace
}  // namespace quire
