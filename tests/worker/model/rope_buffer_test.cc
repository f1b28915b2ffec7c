// SPDX-License-Identifier: Apache-2.0
#include "worker/model/rope_buffer.h"

#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "worker/model/rope_table.h"

namespace quire {
namespace {

TEST(RopeBufferTest, HoldsTheTableOfTheRotatedPart) {
  const auto backend = *CpuBackend::Create({.num_threads = 1});
  ModelConfig config;
  config.head_dim = 16;
  config.rotary_dim = 6;
  config.rope.theta = 500;
  const auto buffer = UploadRopeTable(config, /*num_positions=*/9, *backend);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  const std::vector<float> want = MakeRopeTable(config.rope, 6, 9);
  ASSERT_EQ((*buffer)->bytes(), want.size() * sizeof(float));
  const float* data = (*buffer)->as<float>();
  EXPECT_EQ(std::vector<float>(data, data + want.size()), want);
}

}  // namespace
}  // namespace quire
