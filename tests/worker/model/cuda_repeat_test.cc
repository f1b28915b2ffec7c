// SPDX-License-Identifier: Apache-2.0
//
// Many sequences decode beside each other on the GPU: their keys and values
// depend neither on their order nor on what the cache held.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/worker/model/fold_world.h"
#include "tests/worker/model/repeat_world.h"

namespace quire {
namespace {

// Layers as an 8B model has them.
constexpr int32_t kLayers = 4;
constexpr char kFields[] = R"(, "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 512, "max_position_embeddings": 512, "sliding_window": null)";

std::unique_ptr<Backend> CudaWith(bool is_deterministic) {
  CudaBackendOptions options;
  options.is_deterministic = is_deterministic;
  auto backend = CreateCudaBackend(options);
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

struct Mode {
  const char* name;
  bool is_deterministic;
  bool has_usual_order;  // of the cache: that of who is not deterministic
};

class CudaRepeatTest : public testing::TestWithParam<Mode> {};

// Steps are of the same sizes each time, so that products are the same, too,
// without determinism.
TEST_P(CudaRepeatTest, NeitherOrderNorGarbageShows) {
  RepeatWorld world(
      ConfigOf("LlamaForCausalLM", kLayers, kFields),
      CudaWith(GetParam().is_deterministic),
      {.num_sequences = 128, .num_blocks = 32, .prompt_tokens = 8});
  if (GetParam().has_usual_order) {
    world.set_order(
        CudaWith(/*is_deterministic=*/false)->kv_order(world.layout()));
  }
  const CacheBytes want = world.Compute(/*seed=*/1);
  for (uint32_t seed = 2; seed < 6; ++seed) {
    EXPECT_EQ(world.Differences(want, world.Compute(seed)), "");
  }
}

INSTANTIATE_TEST_SUITE_P(
    Modes, CudaRepeatTest,
    testing::Values(Mode{"Deterministic", true, false},
                    Mode{"DeterministicInUsualOrder", true, true},
                    Mode{"Usual", false, true}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace quire
