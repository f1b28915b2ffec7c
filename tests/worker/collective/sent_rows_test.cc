// SPDX-License-Identifier: Apache-2.0
//
// Products whose rows go to the other ranks as they are stored, and the sums
// that take them from there, on all GPUs of this machine, a thread each.
// Skipped on a machine with fewer than two, or other ones than Hopper.
#include <chrono>
#include <cstring>
#include <iterator>
#include <map>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/panel_gemm.h"
#include "kernels/cuda/stream_gemm.h"
#include "tests/worker/collective/gpu_rank.h"
#include "worker/collective/nccl.h"

namespace quire {
namespace {

constexpr int64_t kWidth = 4096;
constexpr int64_t kMostColumns = 2048;  // of the weight
constexpr int64_t kMostRows = 128;
constexpr int64_t kManyRows = 70;  // of each of several sums
constexpr int64_t kBytes = int64_t{96} << 20;
constexpr int kCalls = 40;

// Places in a rank's memory.
constexpr int64_t kWeight = 0;
constexpr int64_t kRows = kWidth * kMostColumns * 2;
constexpr int64_t kNormWeight = kRows + kMostRows * kMostColumns * 2;
constexpr int64_t kResidual = kNormWeight + kWidth * 2;
constexpr int64_t kPartial = kResidual + kMostRows * kWidth * 2;
constexpr int64_t kOut = kPartial + kMostRows * kWidth * 2;
constexpr int64_t kMany = kOut + kMostRows * kWidth * 2;
static_assert(kMany + kCalls * kWidth * 2 * kManyRows < kBytes);

// Our own products, of few rows and of some.
class Products {
 public:
  explicit Products(cudaStream_t stream) {
    auto few = StreamGemm::Create(stream);
    auto some = PanelGemm::Create(stream);
    CHECK(few.ok() && some.ok());
    few_ = *std::move(few);
    some_ = *std::move(some);
  }

  void Run(const PlainGemmParams& product) {
    CHECK(IsSendable(product));
    const absl::Status status =
        StreamGemm::CanRun(product) ? few_->Run(product) : some_->Run(product);
    CHECK(status.ok()) << status;
  }

 private:
  std::unique_ptr<StreamGemm> few_;
  std::unique_ptr<PanelGemm> some_;
};

class Rank {
 public:
  explicit Rank(GpuRank* own) : own_(*own), products_(own->stream) {
    std::mt19937 random(17 * own_.ranks->rank() + 1);
    std::vector<uint16_t> words(kBytes / 2);
    // bfloat16 of both signs, between 2^-6 and 4; some zeros of either sign.
    for (uint16_t& word : words) {
      const uint32_t bits = random();
      word = bits % 16 == 0 ? (bits & 0x8000)
                            : (bits & 0x8000) | (0x3c80 + bits % 0x400);
    }
    own_.Upload(words);
    QUIRE_CHECK_CUDA(cudaStreamSynchronize(own_.stream));
  }

  Collective& ranks() { return *own_.ranks; }
  char* at(int64_t place) { return own_.buffer->as<char>() + place; }
  void Wait() { QUIRE_CHECK_CUDA(cudaStreamSynchronize(own_.stream)); }

  // y [m, kWidth] of this rank's part.
  void Multiply(int64_t m, int64_t k, void* y, const PeerGroup* peers) {
    const PlainGemmParams product = {.x = at(kRows),
                                     .x_stride = k,
                                     .w = at(kWeight),
                                     .bias = nullptr,
                                     .y = y,
                                     .y_stride = kWidth,
                                     .m = m,
                                     .n = kWidth,
                                     .k = k,
                                     .dtype = DType::kBf16,
                                     .y_dtype = DType::kBf16,
                                     .peers = peers};
    products_.Run(product);
  }

  // As a group's sum is taken: of rows sent, or of `norm.x` that it sends.
  void SumAndNorm(const NormParams& norm, bool is_sent) {
    const auto is_done = is_sent ? ranks().SumSentNorm(norm, DType::kBf16)
                                 : ranks().AllReduceNorm(norm, DType::kBf16);
    CHECK(is_done.ok()) << is_done.status();
    if (*is_done) return;
    CHECK(!is_sent);
    CHECK(ranks()
              .AllReduceSum(at(kPartial), int64_t{norm.num_tokens} * kWidth,
                            DType::kBf16)
              .ok());
    QUIRE_CHECK_CUDA(LaunchNormCuda(norm, DType::kBf16, own_.stream));
  }

  NormParams NormOf(int32_t m) {
    NormParams norm = {};
    norm.kind = NormKind::kRms;
    norm.x = at(kPartial);
    norm.x_dtype = DType::kBf16;
    norm.residual = at(kResidual);
    norm.weight = at(kNormWeight);
    norm.out = at(kOut);
    norm.epsilon = 1e-5f;
    norm.width = kWidth;
    norm.num_tokens = m;
    return norm;
  }

  std::vector<uint16_t> Download(int64_t place, int64_t n) {
    std::vector<uint16_t> words(n);
    QUIRE_CHECK_CUDA(cudaMemcpyAsync(words.data(), at(place), n * 2,
                                     cudaMemcpyDeviceToHost, own_.stream));
    Wait();
    return words;
  }
  void Upload(const std::vector<uint16_t>& words, int64_t place) {
    QUIRE_CHECK_CUDA(cudaMemcpyAsync(at(place), words.data(), words.size() * 2,
                                     cudaMemcpyHostToDevice, own_.stream));
    Wait();
  }

 private:
  GpuRank& own_;
  Products products_;
};

class SentRowsTest : public testing::Test {
 protected:
  void SetUp() override {
    PrepareNcclEnvironment("127.0.0.1");
    if (NumGpus() < 2) GTEST_SKIP() << "two GPUs are wanted, " << NumGpus();
    int major = 0;
    QUIRE_CHECK_CUDA(cudaDeviceGetAttribute(
        &major, cudaDevAttrComputeCapabilityMajor, /*device=*/0));
    if (major != 9) GTEST_SKIP() << "no Hopper GPU";
    world_ = NumGpus() >= 8 ? 8 : NumGpus() >= 4 ? 4 : 2;
  }

  void OnEveryRank(const std::function<void(Rank&)>& body) {
    OnEveryGpu(
        world_, kBytes, CollectiveOptions(),
        [&](GpuRank& own) {
          Rank rank(&own);
          ASSERT_TRUE(own.ranks->Barrier().ok());
          body(rank);
          rank.Wait();
          ASSERT_TRUE(own.ranks->Barrier().ok());
        },
        "peer");
  }

  int32_t world_ = 0;
};

TEST_F(SentRowsTest, SumsAndNormsHaveTheBitsOfRowsThatTheSumSends) {
  OnEveryRank([](Rank& rank) {
    const PeerGroup* peers = rank.ranks().PeersFor(kWidth * 2);
    ASSERT_NE(peers, nullptr);
    for (const int64_t m : {1, 2, 8, 9, 31, 64, 65, 100, 128}) {
      for (const int64_t k : {int64_t{136}, kMostColumns}) {
        const auto residual = rank.Download(kResidual, m * kWidth);
        std::vector<std::vector<uint16_t>> sums, residuals, normed;
        for (const bool sends : {false, true}) {
          rank.Multiply(m, k, rank.at(kPartial), sends ? peers : nullptr);
          ASSERT_TRUE((sends ? rank.ranks().SumSent(rank.at(kPartial),
                                                    m * kWidth, DType::kBf16)
                             : rank.ranks().AllReduceSum(
                                   rank.at(kPartial), m * kWidth, DType::kBf16))
                          .ok());
          sums.push_back(rank.Download(kPartial, m * kWidth));
          rank.Upload(residual, kResidual);
          rank.Multiply(m, k, rank.at(kPartial), sends ? peers : nullptr);
          rank.SumAndNorm(rank.NormOf(static_cast<int32_t>(m)), sends);
          residuals.push_back(rank.Download(kResidual, m * kWidth));
          normed.push_back(rank.Download(kOut, m * kWidth));
        }
        ASSERT_EQ(sums[0], sums[1]) << m << " rows, k " << k;
        ASSERT_EQ(residuals[0], residuals[1]) << m << " rows, k " << k;
        ASSERT_EQ(normed[0], normed[1]) << m << " rows, k " << k;
        EXPECT_NE(residuals[0], residual);
      }
    }
  });
}

// Sums of rows sent ahead and others take turns at random, and so do ranks in
// being late. Every call's result is looked at.
TEST_F(SentRowsTest, TurnsHoldWhoeverSendsAndHoweverLateRanksAre) {
  OnEveryRank([](Rank& rank) {
    constexpr int kBatches = 60;
    constexpr int64_t kSizes[] = {1, 2, 3, kManyRows};
    const PeerGroup* peers = rank.ranks().PeersFor(kWidth * 2);
    ASSERT_NE(peers, nullptr);
    std::mt19937 sizes(5), pauses(rank.ranks().rank() + 99);
    std::map<int64_t, std::vector<uint16_t>> wanted;
    for (const int64_t m : kSizes) {
      rank.Multiply(m, kMostColumns, rank.at(kPartial), nullptr);
      ASSERT_TRUE(rank.ranks()
                      .AllReduceSum(rank.at(kPartial), m * kWidth, DType::kBf16)
                      .ok());
      wanted[m] = rank.Download(kPartial, m * kWidth);
    }
    for (int batch = 0; batch < kBatches; ++batch) {
      std::vector<int64_t> rows;
      for (int call = 0; call < kCalls; ++call) {
        const uint32_t word = sizes();
        rows.push_back(kSizes[word % std::size(kSizes)]);
        const bool sends = word >> 8 & 1;
        if (pauses() % 16 == 0) {
          const auto end = std::chrono::steady_clock::now() +
                           std::chrono::microseconds(pauses() % 200);
          while (std::chrono::steady_clock::now() < end) {
          }
        }
        void* y = rank.at(kMany + call * kWidth * 2 * kManyRows);
        const int64_t n = rows.back() * kWidth;
        rank.Multiply(rows.back(), kMostColumns, y, sends ? peers : nullptr);
        ASSERT_TRUE((sends ? rank.ranks().SumSent(y, n, DType::kBf16)
                           : rank.ranks().AllReduceSum(y, n, DType::kBf16))
                        .ok());
      }
      for (int call = 0; call < kCalls; ++call) {
        ASSERT_EQ(rank.Download(kMany + call * kWidth * 2 * kManyRows,
                                rows[call] * kWidth),
                  wanted[rows[call]])
            << "batch " << batch << ", call " << call;
      }
    }
    EXPECT_TRUE(rank.ranks().status().ok());
  });
}

}  // namespace
}  // namespace quire
