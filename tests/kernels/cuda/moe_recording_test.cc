// SPDX-License-Identifier: Apache-2.0
//
// A mixture of experts in a recording: who has which experts is decided anew
// each time it runs, without the host.
#include <cstdint>
#include <memory>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/tensor.h"

namespace quire {
namespace {

constexpr int32_t kTokens = 33, kExperts = 12, kTopK = 3;
constexpr int64_t kHidden = 136, kInner = 72;
constexpr int64_t kRows = int64_t{kTokens} * kTopK;

// A layer's experts and the buffers that they need, on the device.
class Layer {
 public:
  Layer()
      : backend_(*CreateCudaBackend({.dtype = DType::kBf16})),
        in_(Pack(2 * kInner, kHidden, 1)),
        out_(Pack(kHidden, kInner, 2)),
        logits_(Room(kTokens * kExperts * 4)),
        x_(Room(kTokens * kHidden * 2)),
        weights_(Room(kRows * 4)),
        experts_(Room(kRows * 4)),
        row_tokens_(Room(kRows * 4)),
        pair_rows_(Room(kRows * 4)),
        start_(Room((kExperts + 1) * 4)),
        inner_(Room(kRows * 2 * kInner * 2)),
        act_(Room(kRows * kInner * 2)),
        outer_(Room(kRows * kHidden * 4)),
        sum_(Room(kTokens * kHidden * 4)) {}

  Backend& backend() { return *backend_; }

  void SetInput(uint32_t seed) {
    const Tensor logits =
        Tensor::Random(DType::kF32, kTokens * kExperts, seed, 2.0f);
    const Tensor x = Tensor::Random(DType::kBf16, kTokens * kHidden, seed + 1);
    CHECK(
        backend_->CopyToDevice(logits.data(), logits_->data(), logits_->bytes())
            .ok());
    CHECK(backend_->CopyToDevice(x.data(), x_->data(), x_->bytes()).ok());
    CHECK(backend_->Synchronize().ok());
  }

  absl::Status Enqueue() {
    absl::Status status =
        backend_->RouteTokens({.logits = logits_->as<float>(),
                               .logits_stride = kExperts,
                               .num_experts = kExperts,
                               .top_k = kTopK,
                               .num_tokens = kTokens,
                               .renormalize = true,
                               .weights = weights_->as<float>(),
                               .experts = experts_->as<int32_t>(),
                               .row_tokens = row_tokens_->as<int32_t>(),
                               .pair_rows = pair_rows_->as<int32_t>(),
                               .expert_start = start_->as<int32_t>()});
    ExpertGemmParams product = {.x = x_->data(),
                                .row_tokens = row_tokens_->as<int32_t>(),
                                .weight = in_.get(),
                                .expert_start = start_->as<int32_t>(),
                                .y = inner_->data(),
                                .y_dtype = DType::kBf16,
                                .num_experts = kExperts,
                                .num_rows = static_cast<int32_t>(kRows)};
    if (status.ok()) status = backend_->ExpertGemm(product);
    if (status.ok()) {
      status = backend_->Activation({.kind = ActivationKind::kSiluMul,
                                     .x = inner_->data(),
                                     .out = act_->data(),
                                     .width = static_cast<int32_t>(kInner),
                                     .num_tokens = product.num_rows});
    }
    product.x = act_->data();
    product.row_tokens = nullptr;
    product.weight = out_.get();
    product.y = outer_->data();
    product.y_dtype = DType::kF32;
    if (status.ok()) status = backend_->ExpertGemm(product);
    if (!status.ok()) return status;
    return backend_->CombineExperts({.y = outer_->data(),
                                     .dtype = DType::kF32,
                                     .pair_rows = pair_rows_->as<int32_t>(),
                                     .weights = weights_->as<float>(),
                                     .shared = nullptr,
                                     .gate = nullptr,
                                     .gate_stride = 0,
                                     .out = sum_->data(),
                                     .width = static_cast<int32_t>(kHidden),
                                     .top_k = kTopK,
                                     .num_tokens = kTokens});
  }

  std::vector<float> Output() {
    std::vector<float> sum(kTokens * kHidden);
    CHECK(backend_->CopyToHost(sum_->data(), sum.data(), sum_->bytes()).ok());
    CHECK(backend_->Synchronize().ok());
    return sum;
  }

 private:
  std::unique_ptr<PackedWeight> Pack(int64_t n, int64_t k, uint32_t seed) {
    const Tensor w = Tensor::Random(DType::kBf16, kExperts * n * k, seed, 0.1f);
    return *backend_->PackExperts(
        {HostMatrix{w.data(), DType::kBf16, kExperts * n, k, k}}, kExperts);
  }
  std::unique_ptr<DeviceBuffer> Room(int64_t bytes) {
    return *backend_->Allocate(bytes);
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PackedWeight> in_, out_;
  std::unique_ptr<DeviceBuffer> logits_, x_, weights_, experts_, row_tokens_,
      pair_rows_, start_, inner_, act_, outer_, sum_;
};

TEST(MoeRecordingTest, RoutesAnewEachTimeItRuns) {
  Layer layer;
  layer.SetInput(/*seed=*/10);
  ASSERT_TRUE(layer.Enqueue().ok());
  const std::vector<float> first = layer.Output();
  auto recording = layer.backend().Record([&] { return layer.Enqueue(); });
  ASSERT_TRUE(recording.ok()) << recording.status();
  for (uint32_t seed : {20, 30}) {
    layer.SetInput(seed);
    ASSERT_TRUE(layer.backend().Replay(recording->get()).ok());
    const std::vector<float> replayed = layer.Output();
    EXPECT_NE(replayed, first);
    ASSERT_TRUE(layer.Enqueue().ok());
    EXPECT_EQ(layer.Output(), replayed);
  }
  layer.SetInput(/*seed=*/10);
  ASSERT_TRUE(layer.backend().Replay(recording->get()).ok());
  EXPECT_EQ(layer.Output(), first);
}

}  // namespace
}  // namespace quire
