// SPDX-License-Identifier: Apache-2.0
#include "worker/model/activations.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"

namespace quire {
namespace {

constexpr int64_t kTokens = 7;
constexpr int64_t kRows = 3;

struct Piece {
  const void* data;
  int64_t bytes;
};

void ExpectApart(const Activations& act, const std::vector<Piece>& pieces) {
  const char* begin = act.buffer->as<char>();
  const char* end = begin + act.buffer->bytes();
  for (size_t i = 0; i < pieces.size(); ++i) {
    const char* a = static_cast<const char*>(pieces[i].data);
    EXPECT_GE(a, begin);
    EXPECT_LE(a + pieces[i].bytes, end) << i;
    for (size_t j = 0; j < i; ++j) {
      const char* b = static_cast<const char*>(pieces[j].data);
      EXPECT_TRUE(a + pieces[i].bytes <= b || b + pieces[j].bytes <= a)
          << i << " overlaps " << j;
    }
  }
}

void CheckPieces(const ModelConfig& config, DType dtype) {
  auto backend = CpuBackend::Create({.dtype = dtype, .num_threads = 1});
  ASSERT_TRUE(backend.ok());
  const RankShape shape = MakeRankShape(config, 0, 1);
  const auto act = AllocateActivations(config, shape,
                                       {.max_num_batched_tokens = kTokens,
                                        .max_num_seqs = kRows,
                                        .max_model_len = 16},
                                       **backend);
  ASSERT_TRUE(act.ok()) << act.status();
  const int64_t element = SizeOf(dtype);
  const int64_t hidden = config.hidden_size;
  const bool gated = config.mlp == MlpType::kSiluGated;
  const std::vector<Piece> always = {
      {act->residual, kTokens * hidden * element},
      {act->normed, kTokens * hidden * element},
      {act->partial, kTokens * hidden * SizeOf((*backend)->partial_dtype())},
      {act->kept, kRows * hidden * element},
      {act->logits, kRows * shape.vocab.num_ids * 4}};
  const auto with = [&](std::vector<Piece> pieces) {
    pieces.insert(pieces.end(), always.begin(), always.end());
    ExpectApart(*act, pieces);
  };
  with({{act->qkv, kTokens * (shape.q_size() + 2 * shape.kv_size()) * element},
        {act->attended, kTokens * shape.q_size() * element}});
  const int64_t mlp = kTokens * shape.num_intermediate * element;
  if (gated) {
    with({{act->mlp_in, 2 * mlp}, {act->mlp_act, mlp}});
  } else {
    with({{act->mlp_in, mlp}});
    EXPECT_EQ(act->mlp_in, act->mlp_act);
  }
  with({{act->embedded, kTokens * config.embedding_size * element}});
  with({{act->sampled, kRows * hidden * element},
        {act->projected, kRows * config.embedding_size * element}});
}

ModelConfig Config() {
  ModelConfig config;
  config.hidden_size = 20;
  config.embedding_size = 20;
  config.intermediate_size = 12;
  config.num_q_heads = 5;
  config.num_kv_heads = 1;
  config.head_dim = 6;
  config.vocab_size = 33;
  return config;
}

TEST(ActivationsTest, WhatIsUsedTogetherDoesNotOverlap) {
  CheckPieces(Config(), DType::kF32);
  CheckPieces(Config(), DType::kBf16);
}

TEST(ActivationsTest, HoldsAWideMlp) {
  ModelConfig config = Config();
  config.intermediate_size = 500;
  CheckPieces(config, DType::kBf16);
  config.mlp = MlpType::kRelu;
  CheckPieces(config, DType::kBf16);
}

TEST(ActivationsTest, HoldsExpertsWithWhatTheyReadAndTheSharedOne) {
  for (int32_t expert_size : {2, 300}) {
    ModelConfig config = Config();
    config.moe.num_experts = 9;
    config.moe.top_k = 3;
    config.moe.intermediate_size = expert_size;
    config.moe.shared_intermediate_size = 400;
    CheckPieces(config, DType::kBf16);
    auto backend = CpuBackend::Create({.num_threads = 1});
    ASSERT_TRUE(backend.ok());
    const auto act = AllocateActivations(config, MakeRankShape(config, 0, 1),
                                         {.max_num_batched_tokens = kTokens,
                                          .max_num_seqs = kRows,
                                          .max_model_len = 16},
                                         **backend);
    ASSERT_TRUE(act.ok()) << act.status();
    const int64_t rows = kTokens * 3;
    const std::vector<Piece> with = {{act->normed, kTokens * 20 * 4},
                                     {act->partial, kTokens * 20 * 4},
                                     {act->router_logits, kTokens * 16 * 4},
                                     {act->expert_weights, rows * 4},
                                     {act->experts, rows * 4},
                                     {act->row_tokens, rows * 4},
                                     {act->pair_rows, rows * 4},
                                     {act->expert_start, 10 * 4},
                                     {act->expert_act, rows * expert_size * 4}};
    std::vector<Piece> in = with, out = with;
    in.push_back({act->expert_in, rows * 2 * expert_size * 4});
    out.push_back({act->expert_out, rows * 20 * 4});
    ExpectApart(*act, in);
    ExpectApart(*act, out);
    EXPECT_LE(static_cast<char*>(act->mlp_act) + kTokens * 400 * 4,
              act->buffer->as<char>() + act->buffer->bytes());
  }
}

TEST(ActivationsTest, HoldsEmbeddingsOfAnotherWidth) {
  ModelConfig config = Config();
  config.embedding_size = 8;
  CheckPieces(config, DType::kF32);
  config.embedding_size = 700;
  CheckPieces(config, DType::kF32);
}

}  // namespace
}  // namespace quire
