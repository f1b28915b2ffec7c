// SPDX-License-Identifier: Apache-2.0
//
// The CPU's backend with norms in products, as a GPU's has them, in the plain
// way.
#ifndef TESTS_WORKER_MODEL_FOLDING_BACKEND_H_
#define TESTS_WORKER_MODEL_FOLDING_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace quire {

// In float. Folds where at most so many rows are, and counts.
class FoldingBackend final : public Backend {
 public:
  explicit FoldingBackend(int32_t max_rows);

  std::string name() const override { return cpu_->name(); }
  DType dtype() const override { return cpu_->dtype(); }
  DType partial_dtype() const override { return cpu_->partial_dtype(); }
  absl::StatusOr<MemoryInfo> GetMemoryInfo() override {
    return cpu_->GetMemoryInfo();
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(
      int64_t bytes) override {
    return cpu_->Allocate(bytes);
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateHost(
      int64_t bytes) override {
    return cpu_->AllocateHost(bytes);
  }
  absl::Status CopyToDevice(const void* host, void* device,
                            int64_t bytes) override {
    return cpu_->CopyToDevice(host, device, bytes);
  }
  absl::Status CopyToHost(const void* device, void* host,
                          int64_t bytes) override {
    return cpu_->CopyToHost(device, host, bytes);
  }
  absl::Status Synchronize() override { return cpu_->Synchronize(); }
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackWeight(
      absl::Span<const HostMatrix> stacked) override {
    return cpu_->PackWeight(stacked);
  }
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackExperts(
      absl::Span<const HostMatrix> stacked, int32_t num_experts) override {
    return cpu_->PackExperts(stacked, num_experts);
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const HostMatrix> stacked) override {
    return cpu_->Upload(stacked);
  }

  bool adds_products() const override { return true; }
  bool CanFoldNorm(const GemmParams& params, const PackedWeight& /*next*/,
                   bool /*is_gated*/) const override {
    return params.m <= max_rows_;
  }
  absl::Status Gemm(const GemmParams& params) override;
  absl::Status Norm(const NormParams& params) override {
    ++num_norms_;
    return cpu_->Norm(params);
  }

  absl::Status Embedding(const EmbeddingParams& params) override {
    return cpu_->Embedding(params);
  }
  absl::Status AddRows(const AddRowsParams& params) override {
    return cpu_->AddRows(params);
  }
  absl::Status GatherRows(const GatherRowsParams& params) override {
    return cpu_->GatherRows(params);
  }
  absl::Status Add(const AddParams& params) override {
    return cpu_->Add(params);
  }
  absl::Status Activation(const ActivationParams& params) override {
    return cpu_->Activation(params);
  }
  absl::Status RouteTokens(const RouteTokensParams& params) override {
    return cpu_->RouteTokens(params);
  }
  absl::Status ExpertGemm(const ExpertGemmParams& params) override {
    return cpu_->ExpertGemm(params);
  }
  absl::Status CombineExperts(const CombineExpertsParams& params) override {
    return cpu_->CombineExperts(params);
  }
  absl::Status RopeWriteKv(const RopeWriteKvParams& params) override {
    return cpu_->RopeWriteKv(params);
  }
  absl::Status Attention(const AttentionParams& params) override {
    return cpu_->Attention(params);
  }
  absl::Status CopyBlocks(const BlockCopyParams& params) override {
    return cpu_->CopyBlocks(params);
  }
  absl::Status SwapOutBlocks(const BlockCopyParams& params) override {
    return cpu_->SwapOutBlocks(params);
  }
  absl::Status SwapInBlocks(const BlockCopyParams& params) override {
    return cpu_->SwapInBlocks(params);
  }
  absl::Status SampleShard(const SampleShardParams& params) override {
    return cpu_->SampleShard(params);
  }
  absl::Status ChooseTokens(const ChooseTokensParams& params) override {
    return cpu_->ChooseTokens(params);
  }
  absl::Status MergeChoices(const MergeChoicesParams& params) override {
    return cpu_->MergeChoices(params);
  }
  absl::Status CopyRuns(const CopyRunsParams& params) override {
    return cpu_->CopyRuns(params);
  }

  // Since the last call: norms, and rows of all products.
  int64_t TakeNumNorms();
  int64_t TakeNumProductRows();

 private:
  const int32_t max_rows_;
  std::unique_ptr<Backend> cpu_;
  std::vector<float> product_;
  int64_t num_norms_ = 0;
  int64_t num_product_rows_ = 0;
};

}  // namespace quire

#endif  // TESTS_WORKER_MODEL_FOLDING_BACKEND_H_
