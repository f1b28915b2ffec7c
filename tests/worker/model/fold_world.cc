// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/model/fold_world.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/cpu/bf16.h"
#include "worker/model/registry.h"
#include "worker/weights/dummy_source.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 16;

// Random weights, with norms unlike each other and unlike ones.
class UnevenNorms final : public WeightSource {
 public:
  absl::Status Prepare(const TensorSet& expected) override {
    return source_.Prepare(expected);
  }
  absl::StatusOr<LoadedSlice> Read(const WeightSlice& slice,
                                   DType dtype) override {
    QUIRE_ASSIGN_OR_RETURN(LoadedSlice loaded, source_.Read(slice, dtype));
    if (!absl::EndsWith(slice.tensor.name, "norm.weight")) return loaded;
    void* const values = const_cast<void*>(loaded.matrix.data);
    const int64_t shift =
        slice.tensor.name[slice.tensor.name.find_first_of("0123456789") + 1] +
        static_cast<int64_t>(slice.tensor.name.size());
    for (int64_t i = 0; i < loaded.matrix.rows * loaded.matrix.cols; ++i) {
      const float value = 0.5f + 0.125f * ((i + shift) % 9);
      if (loaded.matrix.dtype == DType::kF32) {
        static_cast<float*>(values)[i] = value;
      } else {
        static_cast<Bf16*>(values)[i] = ToBf16(value);
      }
    }
    return loaded;
  }
  absl::Status Release(const WeightSlice& slice, LoadedSlice loaded) override {
    return source_.Release(slice, std::move(loaded));
  }

 private:
  DummySource source_{/*seed=*/1};
};

std::vector<int32_t> From0(int32_t count) {
  std::vector<int32_t> values(count);
  std::iota(values.begin(), values.end(), 0);
  return values;
}

}  // namespace

ModelConfig ConfigOf(const std::string& architecture, int32_t num_layers,
                     const std::string& fields) {
  auto config = ModelConfig::FromJson(
      absl::StrCat(R"({"architectures": [")", architecture,
                   R"("], "num_hidden_layers": )", num_layers, fields, "}"),
      "");
  CHECK(config.ok()) << config.status();
  return *std::move(config);
}

FoldWorld::FoldWorld(const ModelConfig& config,
                     std::unique_ptr<Backend> backend)
    : backend_(std::move(backend)) {
  UnevenNorms source;
  auto model = CreateModel(config,
                           {.max_num_batched_tokens = kMaxTokens,
                            .max_num_seqs = kMaxTokens,
                            .max_model_len = kMaxTokens},
                           source, *backend_, *group_.collective(0));
  CHECK(model.ok()) << model.status();
  model_ = *std::move(model);
  cache_.layout = model_->kv_layout(kBlockSize);
  cache_.num_blocks = kMaxTokens / kBlockSize;
  memory_ = *backend_->Allocate(cache_.num_blocks * cache_.layout.BlockBytes());
  cache_.base = memory_->data();
}

std::vector<float> FoldWorld::Forward(int32_t num_tokens) {
  return Forward(num_tokens, From0(num_tokens));
}

std::vector<float> FoldWorld::Forward(int32_t num_tokens,
                                      const std::vector<int32_t>& sampled,
                                      const std::vector<int32_t>& asked) {
  BatchInput batch;
  batch.num_tokens = num_tokens;
  batch.num_samples = static_cast<int32_t>(sampled.size());
  batch.num_prompt_rows = static_cast<int32_t>(asked.size());
  batch.num_seqs = 1;
  batch.token_ids = batch.positions = batch.slot_mapping =
      Upload(From0(num_tokens));
  batch.sample_rows = Upload(sampled);
  batch.prompt_rows = Upload(asked);
  batch.query_start = Upload({0, num_tokens});
  batch.context_lens = Upload({num_tokens});
  batch.seq_slots = Upload({0});
  batch.block_tables = Upload(From0(cache_.num_blocks));
  batch.max_blocks_per_seq = cache_.num_blocks;
  std::vector<float> all;
  auto logits = model_->Forward(batch, cache_);
  CHECK(logits.ok()) << logits.status();
  Append(*logits, sampled.size(), &all);
  if (!asked.empty()) {
    logits = model_->Logits(batch.prompt_rows, batch.num_prompt_rows);
    CHECK(logits.ok()) << logits.status();
    Append(*logits, asked.size(), &all);
  }
  uploaded_.clear();
  return all;
}

void FoldWorld::Append(const float* logits, size_t num_rows,
                       std::vector<float>* all) {
  const size_t count = num_rows * model_->vocab_shard().num_ids;
  all->resize(all->size() + count);
  CHECK(backend_
            ->CopyToHost(logits, all->data() + all->size() - count,
                         static_cast<int64_t>(count * sizeof(float)))
            .ok());
  CHECK(backend_->Synchronize().ok());
}

const int32_t* FoldWorld::Upload(const std::vector<int32_t>& list) {
  if (list.empty()) return nullptr;
  const int64_t bytes = static_cast<int64_t>(list.size() * sizeof(int32_t));
  uploaded_.push_back(*backend_->Allocate(bytes));
  CHECK(backend_->CopyToDevice(list.data(), uploaded_.back()->data(), bytes)
            .ok());
  return uploaded_.back()->as<const int32_t>();
}

double RelativeDifference(const std::vector<float>& a,
                          const std::vector<float>& b) {
  CHECK_EQ(a.size(), b.size());
  double apart = 0, all = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    apart += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    all += double{b[i]} * b[i];
  }
  return std::sqrt(apart / all);
}

}  // namespace quire
