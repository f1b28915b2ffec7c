// SPDX-License-Identifier: Apache-2.0
//
// `quire status` and `quire serve`, as far as they go without a cluster; the
// rest is serve_process_test's.
#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/quire/commands.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

struct Ran {
  int code;
  std::string out;
  std::string err;
};

Ran RunCommand(int (*command)(const std::vector<std::string>&),
               const std::vector<std::string>& args) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int code = command(args);
  return {code, testing::internal::GetCapturedStdout(),
          testing::internal::GetCapturedStderr()};
}

TEST(StatusCommandTest, NobodyListensIsOneLine) {
  const Ran ran =
      RunCommand(StatusCommand, {"--target=127.0.0.1:1", "--timeout_s=0.1"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr("127.0.0.1:1"));
  EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1);
}

TEST(StatusCommandTest, WrongUsageIsTold) {
  EXPECT_EQ(RunCommand(StatusCommand, {"what"}).code, 2);
  EXPECT_THAT(RunCommand(StatusCommand, {"--tarjet=x"}).err,
              HasSubstr("target"));
  const Ran help = RunCommand(StatusCommand, {"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("--json"));
}

TEST(ServeCommandTest, WrongUsageIsToldBeforeAnythingStarts) {
  EXPECT_EQ(RunCommand(ServeCommand, {"model"}).code, 2);
  const Ran device = RunCommand(ServeCommand, {"--device=tpu"});
  EXPECT_EQ(device.code, 2);
  EXPECT_THAT(device.err, HasSubstr("--device=tpu"));
  EXPECT_EQ(RunCommand(ServeCommand, {"--tensor_parallel_size=0"}).code, 2);
  EXPECT_EQ(RunCommand(ServeCommand, {"--help"}).code, 0);
}

TEST(ServeCommandTest, AMissingProgramIsNamed) {
  const Ran ran = RunCommand(
      ServeCommand, {"--model=/tmp", "--coordinator_binary=/nowhere/quire"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, testing::AnyOf(HasSubstr("/nowhere/quire"),
                                      HasSubstr("quire_worker")));
}

}  // namespace
}  // namespace quire
