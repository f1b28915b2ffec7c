// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/testbed.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(TestbedTest, SimulatesUnlessItIsReal) {
  SimulationOptions options;
  options.cost.bandwidth = 1e12;
  options.cost.peak_flops = 1e14;
  options.cost.weight_bytes = 1e9;
  options.cost.kv_bytes_per_token = 1;
  options.cost.kv_slots = 1000;
  const auto result =
      Testbed().run(options, MakeWorkload({{10, 5}}, {.num_requests = 3}));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->num_finished, 3);
  EXPECT_FALSE(Testbed().is_real);
}

TEST(TestbedTest, ARealOneStartsAServer) {
  const Testbed testbed = RealTestbed(
      {.quire = "/no/such/program", .model = "", .folder = testing::TempDir()},
      /*speed=*/2, /*max_trace_s=*/1);
  EXPECT_TRUE(testbed.is_real);
  EXPECT_EQ(testbed.speed, 2);
  SimulationOptions options;
  options.cost.kv_slots = 1000;
  EXPECT_EQ(testbed.run(options, MakeWorkload({{10, 5}}, {.num_requests = 3}))
                .status()
                .code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace quire
