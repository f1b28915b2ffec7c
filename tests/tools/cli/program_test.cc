// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/program.h"

#include <cstdlib>
#include <filesystem>
#include <string>

#include "glog/logging.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

// One test: a process begins once.
TEST(ProgramTest, BeginsWhereTheUserStandsAndLogsToStandardError) {
  const auto place = std::filesystem::canonical(testing::TempDir());
  ASSERT_NE(std::filesystem::current_path(), place);
  setenv("BUILD_WORKING_DIRECTORY", place.c_str(), 1);
  unsetenv("GRPC_VERBOSITY");
  BeginProgram("program");
  EXPECT_EQ(std::filesystem::current_path(), place);
  EXPECT_TRUE(google::IsGoogleLoggingInitialized());
  EXPECT_STREQ(std::getenv("GRPC_VERBOSITY"), "NONE");
  testing::internal::CaptureStderr();
  LOG(INFO) << "here";
  EXPECT_NE(testing::internal::GetCapturedStderr().find("here"),
            std::string::npos);
}

}  // namespace
}  // namespace quire
