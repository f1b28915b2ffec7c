// SPDX-License-Identifier: Apache-2.0
//
// On CPUs, sequences computed beside each other have the keys and values that
// they always have; and a difference would be told.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/worker/model/fold_world.h"
#include "tests/worker/model/repeat_world.h"

namespace quire {
namespace {

constexpr int32_t kLayers = 2;

class RepeatTest : public testing::TestWithParam<DType> {
 protected:
  RepeatWorld MakeWorld() {
    auto backend = CpuBackend::Create({.dtype = GetParam(), .num_threads = 1});
    CHECK(backend.ok()) << backend.status();
    return RepeatWorld(
        ConfigOf("LlamaForCausalLM", kLayers, kLlamaFields),
        *std::move(backend),
        {.num_sequences = 5, .num_blocks = 3, .prompt_tokens = 4});
  }
};

TEST_P(RepeatTest, NeitherOrderNorGarbageShows) {
  RepeatWorld world = MakeWorld();
  const CacheBytes want = world.Compute(/*seed=*/1);
  for (uint32_t seed = 2; seed < 6; ++seed) {
    EXPECT_EQ(world.Differences(want, world.Compute(seed)), "");
  }
}

TEST_P(RepeatTest, TheFirstDifferenceOfASequenceIsTold) {
  RepeatWorld world = MakeWorld();
  const CacheBytes want = world.Compute(/*seed=*/1);
  CacheBytes got = want;
  got[world.KeyOffset(3, 40, 0)] ^= 1;
  got[world.KeyOffset(3, 37, 1)] ^= 1;
  got[world.KeyOffset(0, 47, 0)] ^= 1;
  EXPECT_EQ(world.Differences(want, got),
            "sequence 0: token 47, layer 0, 1 bytes; "
            "sequence 3: token 37, layer 1, 1 bytes; ");
}

INSTANTIATE_TEST_SUITE_P(Dtypes, RepeatTest,
                         testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& info) {
                           return std::string(Name(info.param));
                         });

}  // namespace
}  // namespace quire
