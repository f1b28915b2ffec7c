// SPDX-License-Identifier: Apache-2.0
#include "worker/model/registry.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "worker/collective/local.h"
#include "worker/weights/dummy_source.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

ModelConfig Llama() {
  ModelConfig config;
  config.family = ModelFamily::kLlama;
  config.num_layers = 2;
  config.hidden_size = 16;
  config.embedding_size = 16;
  config.intermediate_size = 24;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 4;
  config.rotary_dim = 4;
  config.vocab_size = 40;
  config.max_position = 64;
  config.max_scaled_position = 64;
  return config;
}

ModelConfig Opt() {
  ModelConfig config = Llama();
  config.family = ModelFamily::kOpt;
  config.num_kv_heads = 4;
  config.norm = NormType::kLayer;
  config.mlp = MlpType::kRelu;
  config.attention_bias = true;
  config.attention_out_bias = true;
  config.mlp_bias = true;
  config.tied_embeddings = true;
  config.use_rope = false;
  config.position_offset = 2;
  return config;
}

constexpr StepLimits kLimits = {
    .max_num_batched_tokens = 8, .max_num_seqs = 2, .max_model_len = 32};

class RegistryTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Model>> Create(const ModelConfig& config,
                                                const StepLimits& limits) {
    done_ = 0;
    return CreateModel(config, limits, source_, *backend_,
                       *group_.collective(0),
                       [this](int64_t done, int64_t total) {
                         EXPECT_GE(done, done_);
                         done_ = done;
                         total_ = total;
                       });
  }

  DummySource source_{/*seed=*/3};
  std::unique_ptr<Backend> backend_ = *CpuBackend::Create({.num_threads = 1});
  LocalGroup group_{/*world_size=*/1};
  int64_t done_ = 0;
  int64_t total_ = 0;
};

TEST_F(RegistryTest, MakesEachFamilyFromDummyWeights) {
  for (const ModelConfig& config : {Llama(), Opt()}) {
    const auto model = Create(config, kLimits);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->vocab_shard().num_ids, 40);
    const KvLayout layout = (*model)->kv_layout(/*block_size=*/16);
    EXPECT_EQ(layout.num_layers, 2);
    EXPECT_EQ(layout.num_kv_heads, config.num_kv_heads);
    EXPECT_EQ(layout.head_dim, 4);
    EXPECT_EQ(layout.block_size, 16);
    EXPECT_GT((*model)->activation_bytes(), 0);
    EXPECT_EQ(done_, total_);
    // Every parameter in float32, and a little for packing.
    EXPECT_GE((*model)->weight_bytes(), 4 * total_);
  }
}

TEST_F(RegistryTest, RefusesLengthsBeyondTheModelsPositions) {
  StepLimits limits = kLimits;
  limits.max_model_len = 65;
  const absl::Status status = Create(Opt(), limits).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("max_model_len 65 is beyond the "
                                          "model's 64 positions"));
}

TEST_F(RegistryTest, RefusesEmptyLimits) {
  for (int32_t StepLimits::*field :
       {&StepLimits::max_num_batched_tokens, &StepLimits::max_num_seqs,
        &StepLimits::max_model_len}) {
    StepLimits limits = kLimits;
    limits.*field = 0;
    EXPECT_EQ(Create(Llama(), limits).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(RegistryTest, RefusesRanksThatCannotShareTheModel) {
  LocalGroup group(/*world_size=*/3);
  const absl::Status status =
      CreateModel(Llama(), kLimits, source_, *backend_, *group.collective(0))
          .status();
  EXPECT_THAT(status.message(), HasSubstr("--tensor_parallel_size=3"));
}

TEST_F(RegistryTest, AStepWithoutSamplesStillFillsTheCache) {
  for (const ModelConfig& config : {Llama(), Opt()}) {
    const auto model = Create(config, kLimits);
    ASSERT_TRUE(model.ok()) << model.status();
    KvCache cache;
    cache.layout = (*model)->kv_layout(/*block_size=*/4);
    cache.num_blocks = 2;
    std::vector<float> storage(2 * cache.layout.BlockStride(), -1);
    cache.base = storage.data();
    const std::vector<int32_t> ids = {3, 39, 0};
    const std::vector<int32_t> positions = {0, 1, 2};
    const std::vector<int32_t> slots = {4, 5, 6};
    const std::vector<int32_t> query_start = {0, 3};
    const int32_t context_len = 3;
    const int32_t seq_slot = 0;
    const std::vector<int32_t> table = {1, 0};
    BatchInput batch;
    batch.num_tokens = 3;
    batch.num_seqs = 1;
    batch.token_ids = ids.data();
    batch.positions = positions.data();
    batch.slot_mapping = slots.data();
    batch.query_start = query_start.data();
    batch.context_lens = &context_len;
    batch.seq_slots = &seq_slot;
    batch.block_tables = table.data();
    batch.max_blocks_per_seq = 2;
    const auto logits = (*model)->Forward(batch, cache);
    ASSERT_TRUE(logits.ok()) << logits.status();
    // Block 1 got three of its four slots, block 0 none.
    const int64_t stride = cache.layout.BlockStride();
    EXPECT_EQ(std::count(storage.begin(), storage.begin() + stride, -1.0f),
              stride);
    EXPECT_EQ(std::count(storage.begin() + stride, storage.end(), -1.0f),
              stride / 4);
  }
}

}  // namespace
}  // namespace quire
