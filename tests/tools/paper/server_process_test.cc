// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/server_process.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

std::string Quire() { return Runfile("tools/quire/quire"); }
// Its blocks are counted: beside a machine that compiles none may fit.
std::vector<std::string> Flags() {
  return {"--model=" + ModelFolder("tools/demo_model/model"),
          "--num_gpu_blocks_override=64", "--memory_utilization=1"};
}

TEST(ServerProcessTest, ServesUntilItIsStopped) {
  auto server = ServerProcess::Start(Quire(), Flags(), testing::TempDir());
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_NE((*server)->address().find("127.0.0.1:"), std::string::npos);
  const absl::Status stopped = (*server)->Stop();
  EXPECT_TRUE(stopped.ok()) << stopped;
}

TEST(ServerProcessTest, RepeatsWhyAServerDidNotStart) {
  std::vector<std::string> flags = Flags();
  flags.push_back("--block_size=17");
  const auto server = ServerProcess::Start(Quire(), flags, testing::TempDir());
  EXPECT_EQ(server.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(server.status().message().find("block_size"), std::string::npos)
      << server.status();
}

}  // namespace
}  // namespace quire
