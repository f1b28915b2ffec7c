// SPDX-License-Identifier: Apache-2.0
//
// What golden models show of whole forward passes, here step by step, on one
// rank and on two.
#include "worker/model/decoder_ops.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/reference/activation.h"
#include "tests/reference/gemm.h"
#include "tests/reference/moe.h"
#include "tests/reference/norm.h"
#include "worker/collective/local.h"
#include "worker/weights/dummy_source.h"

namespace quire {
namespace {

constexpr int32_t kTokens = 7;
// Three products behind each other, each of at most 24 terms below 8 in
// magnitude, whose roundings add up: 3 (24 + 2) 2^-24 8 < 4e-5.
constexpr double kTolerance = 4e-5;

ModelConfig Config() {
  ModelConfig config;
  config.num_layers = 1;
  config.hidden_size = 12;
  config.embedding_size = 12;
  config.intermediate_size = 8;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 6;
  config.vocab_size = 11;
  return config;
}

ModelConfig MoeConfigOf(int32_t shared_size, bool renormalize) {
  ModelConfig config = Config();
  config.moe.num_experts = 5;
  config.moe.top_k = 2;
  config.moe.intermediate_size = 6;
  config.moe.shared_intermediate_size = shared_size;
  config.moe.renormalize = renormalize;
  config.moe.dense_layers = {false};
  return config;
}

LayerNames NamesOf(const ModelConfig& config) {
  LayerNames names = {.attention_norm = "attention_norm",
                      .q = "q",
                      .k = "k",
                      .v = "v",
                      .attention_out = "o",
                      .mlp_norm = "mlp_norm",
                      .mlp_in = {"gate", "up"},
                      .mlp_out = "down"};
  if (config.moe.num_experts > 0) {
    names.moe = MoeNames{.router = "router",
                         .experts = "expert",
                         .in = {".gate", ".up"},
                         .out = ".down",
                         .shared_in = {"shared.gate", "shared.up"},
                         .shared_out = "shared.down",
                         .shared_gate = "shared_gate"};
  }
  return names;
}

// The whole of a random matrix.
std::vector<double> Matrix(const std::string& name, int64_t rows,
                           int64_t cols) {
  DummySource source(/*seed=*/1);
  const TensorSpec spec = {name + ".weight", rows, cols, false};
  const auto loaded = source.Read({spec, 0, rows, 0, cols}, DType::kF32);
  const float* data = static_cast<const float*>(loaded->matrix.data);
  return std::vector<double>(data, data + rows * cols);
}

std::vector<double> Times(const std::vector<double>& x, const std::string& name,
                          int64_t rows) {
  const int64_t cols = static_cast<int64_t>(x.size());
  return reference::Gemm(x, Matrix(name, rows, cols), {}, 1, rows, cols).y;
}

// down(silu(gate(x)) up(x)).
std::vector<double> Mlp(const std::vector<double>& x, const std::string& gate,
                        const std::string& up, const std::string& down,
                        int64_t width) {
  std::vector<double> inner = Times(x, gate, width);
  const std::vector<double> ups = Times(x, up, width);
  for (int64_t i = 0; i < width; ++i) {
    inner[i] = reference::Silu(inner[i]) * ups[i];
  }
  return Times(inner, down, static_cast<int64_t>(x.size()));
}

std::vector<double> Moe(const ModelConfig& config,
                        const std::vector<double>& x) {
  const MoeConfig& moe = config.moe;
  const reference::Route route = reference::RouteToken(
      Times(x, "router", moe.num_experts), moe.top_k, moe.renormalize);
  std::vector<double> sum(x.size());
  const auto add = [&](double weight, const std::vector<double>& part) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += weight * part[i];
  };
  for (int32_t i = 0; i < moe.top_k; ++i) {
    const std::string expert = "expert" + std::to_string(route.experts[i]);
    add(route.weights[i], Mlp(x, expert + ".gate", expert + ".up",
                              expert + ".down", moe.intermediate_size));
  }
  if (moe.shared_intermediate_size > 0) {
    const double gate = 1 / (1 + std::exp(-Times(x, "shared_gate", 1)[0]));
    add(gate, Mlp(x, "shared.gate", "shared.up", "shared.down",
                  moe.shared_intermediate_size));
  }
  return sum;
}

// Token t's input.
std::vector<double> Input(int32_t token) {
  std::vector<double> x;
  for (int32_t i = 0; i < 12; ++i) {
    x.push_back(static_cast<float>(std::sin(1.7 * i + 3.1 * token)));
  }
  return x;
}

// Runs `work` on each of `world_size` ranks at once.
void OnRanks(const ModelConfig& config, int32_t world_size,
             const std::function<void(DecoderOps& ops, const DecoderLayer&,
                                      int32_t rank)>& work) {
  LocalGroup group(world_size);
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      DummySource source(/*seed=*/1);
      const auto backend = *CpuBackend::Create({.num_threads = 1});
      auto ops = DecoderOps::Create(config,
                                    {.max_num_batched_tokens = kTokens,
                                     .max_num_seqs = kTokens,
                                     .max_model_len = 16},
                                    *backend, *group.collective(rank));
      ASSERT_TRUE(ops.ok()) << ops.status();
      TensorSet expected;
      ExpectLayer(config, NamesOf(config), &expected.tensors);
      auto loader = WeightLoader::Create(expected, source, *backend, nullptr);
      ASSERT_TRUE(loader.ok()) << loader.status();
      const auto layer =
          LoadLayer(config, (*ops)->shape(), NamesOf(config), **loader);
      ASSERT_TRUE(layer.ok()) << layer.status();
      work(**ops, *layer, rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// What Mlp() adds to a sum of zeros, for all tokens; the same on every rank.
std::vector<float> RunMlp(const ModelConfig& config, int32_t world_size) {
  std::vector<std::vector<float>> sums(world_size);
  OnRanks(config, world_size,
          [&](DecoderOps& ops, const DecoderLayer& layer, int32_t rank) {
            const Activations& act = ops.activations();
            float* residual = static_cast<float*>(act.residual);
            float* normed = static_cast<float*>(act.normed);
            for (int32_t t = 0; t < kTokens; ++t) {
              const std::vector<double> x = Input(t);
              for (int32_t i = 0; i < 12; ++i) {
                normed[t * 12 + i] = static_cast<float>(x[i]);
                residual[t * 12 + i] = 0;
              }
            }
            ASSERT_TRUE(ops.Mlp(layer, normed, kTokens).ok());
            ASSERT_TRUE(ops.Add(kTokens).ok());
            sums[rank].assign(residual, residual + kTokens * 12);
          });
  for (const auto& sum : sums) EXPECT_EQ(sum, sums[0]);
  return sums[0];
}

TEST(DecoderOpsTest, TheRanksColumnsOfAnMlpAddUp) {
  for (int32_t world_size : {1, 2}) {
    const std::vector<float> sums = RunMlp(Config(), world_size);
    for (int32_t t = 0; t < kTokens; ++t) {
      const auto want = Mlp(Input(t), "gate", "up", "down", 8);
      for (int32_t i = 0; i < 12; ++i) {
        EXPECT_NEAR(sums[t * 12 + i], want[i], kTolerance)
            << world_size << " ranks, token " << t;
      }
    }
  }
}

TEST(DecoderOpsTest, ExpertsAndTheSharedOneAddUp) {
  for (int32_t shared_size : {0, 4}) {
    for (bool renormalize : {false, true}) {
      const ModelConfig config = MoeConfigOf(shared_size, renormalize);
      for (int32_t world_size : {1, 2}) {
        const std::vector<float> sums = RunMlp(config, world_size);
        for (int32_t t = 0; t < kTokens; ++t) {
          const auto want = Moe(config, Input(t));
          for (int32_t i = 0; i < 12; ++i) {
            EXPECT_NEAR(sums[t * 12 + i], want[i], kTolerance)
                << world_size << " ranks, shared " << shared_size << ", token "
                << t;
          }
        }
      }
    }
  }
}

TEST(DecoderOpsTest, RanksShareTheEmbedding) {
  const std::vector<int32_t> ids = {0, 10, 5, 6, 3, 9, 5};
  const std::vector<double> table = Matrix("embedding", 11, 12);
  OnRanks(Config(), /*world_size=*/2,
          [&](DecoderOps& ops, const DecoderLayer&, int32_t) {
            const VocabShard vocab = ops.shape().vocab;
            const auto backend = *CpuBackend::Create({.num_threads = 1});
            const auto shard = *backend->Allocate(vocab.num_ids * 12 * 4);
            for (int32_t i = 0; i < vocab.num_ids * 12; ++i) {
              shard->as<float>()[i] =
                  static_cast<float>(table[vocab.first_id * 12 + i]);
            }
            BatchInput batch;
            batch.num_tokens = kTokens;
            batch.token_ids = ids.data();
            void* out = ops.activations().residual;
            ASSERT_TRUE(ops.Embed(*shard, batch, out).ok());
            for (int32_t t = 0; t < kTokens; ++t) {
              for (int32_t i = 0; i < 12; ++i) {
                ASSERT_EQ(static_cast<float*>(out)[t * 12 + i],
                          static_cast<float>(table[ids[t] * 12 + i]));
              }
            }
          });
}

TEST(DecoderOpsTest, ASublayersOutputIsAddedBeforeTheNextNorm) {
  for (int32_t world_size : {1, 2}) {
    OnRanks(Config(), world_size,
            [&](DecoderOps& ops, const DecoderLayer& layer, int32_t) {
              const Activations& act = ops.activations();
              float* residual = static_cast<float*>(act.residual);
              float* normed = static_cast<float*>(act.normed);
              for (int32_t t = 0; t < kTokens; ++t) {
                for (int32_t i = 0; i < 12; ++i) {
                  normed[t * 12 + i] = static_cast<float>(Input(t)[i]);
                  residual[t * 12 + i] = 0.5f;
                }
              }
              ASSERT_TRUE(ops.Mlp(layer, normed, kTokens).ok());
              ASSERT_TRUE(ops.AddNorm(layer.mlp_norm, kTokens).ok());
              for (int32_t t = 0; t < kTokens; ++t) {
                std::vector<double> sum =
                    Mlp(Input(t), "gate", "up", "down", 8);
                for (double& value : sum) value += 0.5;
                const auto want = reference::Norm(
                    sum, {}, {}, ops.config().norm_epsilon, false);
                for (int32_t i = 0; i < 12; ++i) {
                  EXPECT_NEAR(residual[t * 12 + i], sum[i], kTolerance);
                  // The norm divides by a root mean square of at least 0.2.
                  EXPECT_NEAR(normed[t * 12 + i], want[i], 10 * kTolerance);
                }
              }
            });
  }
}

TEST(DecoderOpsDeathTest, ABatchBeyondTheLimitsIsABug) {
  LocalGroup group(1);
  const auto backend = *CpuBackend::Create({.num_threads = 1});
  const auto ops = DecoderOps::Create(
      Config(),
      {.max_num_batched_tokens = 2, .max_num_seqs = 2, .max_model_len = 16},
      *backend, *group.collective(0));
  ASSERT_TRUE(ops.ok()) << ops.status();
  KvCache cache;
  cache.layout = (*ops)->kv_layout(/*block_size=*/4);
  BatchInput batch;
  batch.num_tokens = 2;
  (*ops)->CheckBatch(batch, cache);
  batch.num_tokens = 3;
  EXPECT_DEATH((*ops)->CheckBatch(batch, cache), "max_num_batched_tokens");
}

}  // namespace
}  // namespace quire
