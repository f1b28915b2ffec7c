// SPDX-License-Identifier: Apache-2.0
//
// A model whose norms are folded into products says on the GPU what it says
// with norms of their own.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/worker/model/fold_world.h"

namespace quire {
namespace {

constexpr int32_t kLayers = 2;

// Wide enough that panels keep a Hopper GPU busy with every product.
constexpr char kFields[] = R"(, "hidden_size": 4096, "intermediate_size": 4096,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 512, "max_position_embeddings": 512, "sliding_window": null)";

std::unique_ptr<Backend> CudaWith(DType dtype, bool has_panels) {
  CudaBackendOptions options;
  options.dtype = dtype;
  options.is_tuned = false;
  options.has_stream_gemm = has_panels;
  options.times_operations = true;
  auto backend = CreateCudaBackend(options);
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

int64_t TakeNumNorms(Backend& backend) {
  for (const OperationTime& time : backend.TakeOperationTimes()) {
    if (time.name == "norm") return time.count;
  }
  return 0;
}

class CudaFoldTest : public testing::TestWithParam<const char*> {};

// Weights are exact in bfloat16, and norms of other layers, or none, would err
// by more than ten times as much.
TEST_P(CudaFoldTest, RoundsNoWorseThanSeparateNorms) {
  const ModelConfig config = ConfigOf(GetParam(), kLayers, kFields);
  FoldWorld exact(config, CudaWith(DType::kF32, /*has_panels=*/false));
  FoldWorld folded(config, CudaWith(DType::kBf16, /*has_panels=*/true));
  FoldWorld plain(config, CudaWith(DType::kBf16, /*has_panels=*/false));
  // Of heads, where they have them, two more a layer.
  const int64_t head_norms = config.qk_norm ? 2 * kLayers : 0;
  for (const int32_t num_tokens : {64, 65, 97, 128, 129}) {
    const std::vector<float> want = exact.Forward(num_tokens);
    const std::vector<float> got = folded.Forward(num_tokens);
    const std::vector<float> separate = plain.Forward(num_tokens);
    const double error = RelativeDifference(separate, want);
    EXPECT_LT(error, 0.02) << num_tokens;
    EXPECT_LT(RelativeDifference(got, want), 1.1 * error) << num_tokens;
    EXPECT_EQ(TakeNumNorms(plain.backend()), 2 * kLayers + 1 + head_norms);
    if (got == separate) continue;  // no Hopper GPU
    const bool is_folded = num_tokens > 64 && num_tokens <= 128;
    // Before the first layer and behind the last no product can take them.
    EXPECT_EQ(TakeNumNorms(folded.backend()),
              (is_folded ? 2 : 2 * kLayers + 1) + head_norms)
        << num_tokens;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, CudaFoldTest,
                         testing::Values("LlamaForCausalLM", "Qwen2ForCausalLM",
                                         "Qwen3ForCausalLM"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace quire
