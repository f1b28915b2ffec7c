// SPDX-License-Identifier: Apache-2.0
//
// Our own products of many rows, for every tile that there is a kernel for.
#include "kernels/cuda/tile_gemm.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/tile_plan.h"
#include "tests/kernels/cuda/own_product_world.h"
#include "tests/kernels/cuda/size_sample.h"
#include "tests/kernels/tensor.h"

namespace quire {
namespace {

// Few, so that small products have several tiles a cluster.
constexpr TileClusters kPairs = {kPairOfTiles, 11, 0};
constexpr TileClusters kMixed = {kEightTiles, 3, 5};

// So many parts less than clusters are cut into runs, which begin and end
// within tiles. Plans do so where k is too long for the reference.
void CutRuns(TilePlan* plan) {
  const int32_t parts = plan->num_clusters - 1;
  CHECK_LE(parts, plan->whole_parts);
  const int32_t pieces = parts * plan->pieces_per_tile;
  plan->whole_parts -= parts;
  plan->pieces_per_cluster = pieces / plan->num_clusters;
  plan->longer_clusters = pieces % plan->num_clusters;
}

// A tile's tokens, and whether by clusters of eight and pairs beside them.
using TileParam = std::tuple<int32_t, bool>;

class TileGemmTest : public OwnProductFixture<TileGemm, TileParam> {
 protected:
  void SetUp() override {
    OwnProductFixture::SetUp();
    if (gemm_ == nullptr) return;
    if (is_mixed() && !gemm_->CanMix()) GTEST_SKIP() << "no clusters of eight";
  }
  absl::StatusOr<std::unique_ptr<TileGemm>> Create() override {
    return TileGemm::Create(stream_, /*is_deterministic=*/false);
  }
  absl::Status Multiply(const PlainGemmParams& params) override {
    ProductPlan plan = PlanTiles({.m = params.m,
                                  .n = params.n,
                                  .k = params.k,
                                  .clusters = is_mixed() ? kMixed : kPairs,
                                  .may_split = false},
                                 std::get<int32_t>(GetParam()));
    if (cuts_runs_) {
      CutRuns(&plan.first);
      if (is_mixed()) CutRuns(&plan.second);
    }
    return gemm_->RunAs(plan, params);
  }

  bool is_mixed() const { return std::get<bool>(GetParam()); }
  // Of a cluster.
  int64_t tokens() const {
    const ClusterShape& shape = is_mixed() ? kEightTiles : kPairOfTiles;
    return std::get<int32_t>(GetParam()) * shape.token_tiles;
  }

  bool cuts_runs_ = false;
};

// Rows, weights and k that are no multiples of any tile's sides.
TEST_P(TileGemmTest, AgreesWithTheReferenceOnOddSizes) {
  const ProductCase kCases[] = {{1, 16, 8},
                                {tokens() - 15, 144, 72},
                                {tokens(), 272, 1032},
                                {2 * tokens() - 7, 400, 200}};
  for (const ProductCase& c : kCases) {
    for (const ProductKind kind : kProductKinds) {
      if (!IsSampled()) continue;
      ASSERT_TRUE(World().AgreesWithReference(c, kind));
    }
  }
}

TEST_P(TileGemmTest, AgreesWithTheReferenceOnClustersOfSeveralTiles) {
  for (const ProductKind kind : kProductKinds) {
    if (!IsSampled()) continue;
    ASSERT_TRUE(
        World().AgreesWithReference({2 * tokens() - 7, 1552, 136}, kind));
  }
}

TEST_P(TileGemmTest, AgreesWithTheReferenceOnTilesOfSeveralClusters) {
  cuts_runs_ = true;
  for (const ProductKind kind : {ProductKind::kFloat, ProductKind::kGated}) {
    if (!IsSampled()) continue;
    ASSERT_TRUE(
        World().AgreesWithReference({2 * tokens() - 7, 1552, 392}, kind));
  }
}

TEST_P(TileGemmTest, AddsInTheSameOrderEachTime) {
  cuts_runs_ = true;
  EXPECT_TRUE(World().Repeats({2 * tokens(), 1552, 1032}));
}

INSTANTIATE_TEST_SUITE_P(
    Tokens, TileGemmTest,
    testing::Combine(testing::Range(kMinTileTokens,
                                    kMaxTileTokens + kTileTokensStep,
                                    kTileTokensStep),
                     testing::Bool()),
    [](const auto& info) {
      return (std::get<bool>(info.param) ? "MixedTilesOf" : "TilesOf") +
             std::to_string(std::get<int32_t>(info.param));
    });

// Of pairs and of mixed clusters in one stream; the parameter says whether they
// are deterministic.
class MixedTilesTest : public OwnProductFixture<TileGemm, bool> {
 protected:
  void SetUp() override {
    OwnProductFixture::SetUp();
    if (gemm_ == nullptr) return;
    if (!gemm_->CanMix()) GTEST_SKIP() << "no clusters of eight";
  }
  absl::StatusOr<std::unique_ptr<TileGemm>> Create() override {
    return TileGemm::Create(stream_, /*is_deterministic=*/GetParam());
  }
  absl::Status Multiply(const PlainGemmParams& params) override {
    return gemm_->RunMixed(params);
  }
};

class DeterministicTilesTest : public MixedTilesTest {};

TEST_P(DeterministicTilesTest, PairsAndMixedClustersGiveTheSameBits) {
  const OwnProductWorld pairs(stream_, [this](const PlainGemmParams& params) {
    return gemm_->Run(params);
  });
  for (const ProductCase& c : {ProductCase{1, 16, 8},
                               {300, 528, 520},
                               {700, 7168, 264},
                               {1920, 4096, 1032}}) {
    for (const ProductKind kind : kProductKinds) {
      if (!IsSampled()) continue;
      ASSERT_TRUE(World().HasBitsOf(pairs, c, kind));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, DeterministicTilesTest, testing::Values(true));

// Products that each read what the one before wrote, and write what that one
// read.
class TileChainTest : public MixedTilesTest {
 protected:
  static constexpr int64_t kSide = 4096;  // n and k
  static constexpr int64_t kRows = 1920;
  static constexpr int64_t kBytes = kRows * kSide * 2;
  static constexpr int kProducts = 12;

  void SetUp() override {
    MixedTilesTest::SetUp();
    if (IsSkipped()) return;
    w_ = Upload(Tensor::Random(DType::kBf16, kSide * kSide, 1, 1.0f / 64));
    first_ = Upload(Tensor::Random(DType::kBf16, kRows * kSide, 2));
    for (auto& rows : rows_) rows = Upload(Tensor(DType::kBf16, kRows * kSide));
    for (auto& copy : copies_) {
      copy = Upload(Tensor(DType::kBf16, kRows * kSide));
    }
  }

  void Copy(const void* from, DeviceBuffer* to) {
    CHECK_EQ(cudaMemcpyAsync(to->data(), from, kBytes, cudaMemcpyDeviceToDevice,
                             stream_),
             cudaSuccess);
  }

  // After each third product and the last a copy, which does not overlap.
  void Enqueue(const std::function<void()>& after_each) {
    Copy(first_->data(), rows_[0].get());
    for (int i = 0; i < kProducts; ++i) {
      const PlainGemmParams product = {.x = rows_[i % 2]->data(),
                                       .x_stride = kSide,
                                       .w = w_->data(),
                                       .bias = nullptr,
                                       .y = rows_[(i + 1) % 2]->data(),
                                       .y_stride = kSide,
                                       .m = kRows,
                                       .n = kSide,
                                       .k = kSide,
                                       .dtype = DType::kBf16,
                                       .y_dtype = DType::kBf16};
      const absl::Status status =
          i % 4 == 2 ? gemm_->Run(product) : gemm_->RunMixed(product);
      CHECK(status.ok()) << status;
      after_each();
      if (i % 3 == 2) Copy(product.y, copies_[i / 3].get());
    }
  }

  // Of all copies; poisons them.
  std::vector<Tensor> TakeCopies() {
    CHECK_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    std::vector<Tensor> tensors;
    for (auto& copy : copies_) {
      Tensor& tensor = tensors.emplace_back(DType::kBf16, kRows * kSide);
      CHECK_EQ(cudaMemcpy(tensor.data(), copy->data(), kBytes,
                          cudaMemcpyDeviceToHost),
               cudaSuccess);
      CHECK_EQ(cudaMemset(copy->data(), 0xff, kBytes), cudaSuccess);
    }
    return tensors;
  }

  void ExpectSame(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].SameBits(b[i])) << i;
  }

 private:
  std::unique_ptr<DeviceBuffer> w_, first_, rows_[2], copies_[kProducts / 3];
};

TEST_P(TileChainTest, OverlappedProductsGiveTheBitsOfOneByOne) {
  Enqueue([&] { CHECK_EQ(cudaStreamSynchronize(stream_), cudaSuccess); });
  const std::vector<Tensor> one_by_one = TakeCopies();
  for (int i = 0; i < 5; ++i) {
    Enqueue([] {});
    ExpectSame(TakeCopies(), one_by_one);
  }
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t ready = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
            cudaSuccess);
  Enqueue([] {});
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&ready, graph, 0), cudaSuccess);
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(cudaGraphLaunch(ready, stream_), cudaSuccess);
    ExpectSame(TakeCopies(), one_by_one);
  }
  cudaGraphExecDestroy(ready);
  cudaGraphDestroy(graph);
}

INSTANTIATE_TEST_SUITE_P(Modes, TileChainTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Deterministic" : "Splits";
                         });

}  // namespace
}  // namespace quire
