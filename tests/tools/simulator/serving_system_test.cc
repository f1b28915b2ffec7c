// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/serving_system.h"

#include "coordinator/engine/engine_options.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(ServingSystemTest, EachIsFoundByItsNameAndIsOneThatTheEngineHas) {
  for (const ServingSystem& system : ServingSystems()) {
    const auto found = FindServingSystem(system.name);
    ASSERT_TRUE(found.ok()) << found.status();
    SimulationOptions options;
    ApplyServingSystem(*found, &options);
    EXPECT_TRUE(ValidateEngineOptions(options.engine).ok()) << system.name;
    EXPECT_EQ(options.contiguous_kv, system.name != "paged");
  }
}

TEST(ServingSystemTest, AnErrorNamesThoseThatThereAre) {
  const auto found = FindServingSystem("vllm");
  EXPECT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(found.status().message().find("orca_pow2"), std::string::npos);
}

}  // namespace
}  // namespace quire
