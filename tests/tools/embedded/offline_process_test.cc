// SPDX-License-Identifier: Apache-2.0
//
// quire_offline as users run it: killed, and run again.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/process.h"
#include "tests/integration/runfiles.h"
#include "tests/tools/fakes/fake_server.h"

namespace quire {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr int kNumLines = 40;
// Far above what a run takes, even on a loaded machine.
constexpr absl::Duration kPatience = absl::Seconds(120);

std::string WriteInput(const std::string& name) {
  const std::string path = TempPath(name);
  std::ofstream file(path);
  for (int i = 0; i < kNumLines; ++i) {
    file << Json({{"id", i},
                  {"prompt", absl::StrCat("Story ", i, ":")},
                  {"sampling", {{"temperature", i % 2}, {"ignore_eos", true}}}})
                .dump()
         << "\n";
  }
  return path;
}

std::unique_ptr<Process> StartOffline(const std::string& input,
                                      const std::string& output,
                                      std::vector<std::string> more = {}) {
  std::vector<std::string> argv = {
      Runfile("tools/embedded/quire_offline"),
      "--input=" + input,
      "--output=" + output,
      "--model=" + ModelFolder("tools/demo_model/model"),
      "--num_threads=1",
      "--max_model_len=128",
      "--max_num_seqs=4",
      "--num_gpu_blocks_override=64",
      "--swap_space=0",
      "--max_tokens=60"};
  argv.insert(argv.end(), more.begin(), more.end());
  auto process = Process::Start(argv, output + ".err");
  EXPECT_TRUE(process.ok()) << process.status();
  return *std::move(process);
}

size_t NumLines(const std::string& path) {
  std::ifstream file(path);
  size_t count = 0;
  for (std::string line; std::getline(file, line);) ++count;
  return count;
}

// Returns when there are more lines, or there will be none.
void WaitForMoreLines(const std::string& path, size_t known, Process* process) {
  while (NumLines(path) <= known) {
    if (process->Wait(absl::Milliseconds(5)).ok()) return;
  }
}

std::map<std::string, Json> TokensById(const std::string& path) {
  std::map<std::string, Json> tokens;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const Json json = Json::parse(line);
    EXPECT_TRUE(tokens.emplace(json["id"], json["token_ids"]).second) << line;
  }
  return tokens;
}

TEST(OfflineProcessTest, AKilledRunGoesOnAndGivesTheSameTokens) {
  const std::string input = WriteInput("killed.in");
  const std::string whole = TempPath("whole.out");
  EXPECT_EQ(*StartOffline(input, whole)->Wait(kPatience), 0);
  const auto expected = TokensById(whole);
  ASSERT_EQ(expected.size(), static_cast<size_t>(kNumLines));

  const std::string output = TempPath("killed.out");
  int num_kills = 0;
  // Three kills, each when something new is there; then to the end.
  for (size_t known = 0; num_kills < 3; known = NumLines(output)) {
    const auto process = StartOffline(input, output);
    WaitForMoreLines(output, known, process.get());
    process->Signal(SIGKILL);
    if (*process->Wait(kPatience) != 128 + SIGKILL) break;  // it had ended
    ++num_kills;
  }
  EXPECT_GT(num_kills, 0);
  std::ofstream(output, std::ios::app) << "{\"id\":\"3\",\"te";  // torn
  const auto last = StartOffline(input, output);
  EXPECT_EQ(*last->Wait(kPatience), 0) << last->Stderr();
  EXPECT_EQ(TokensById(output), expected);
}

TEST(OfflineProcessTest, AnInterruptLeavesWholeLines) {
  const std::string input = WriteInput("interrupt.in");
  const std::string output = TempPath("interrupt.out");
  const auto process = StartOffline(input, output, {"--max_tokens=100"});
  WaitForMoreLines(output, 0, process.get());
  process->Signal(SIGINT);
  const auto code = process->Wait(kPatience);
  ASSERT_TRUE(code.ok()) << code.status();
  if (*code != 0) {  // it may have been quick
    EXPECT_EQ(*code, 128 + SIGINT);
    EXPECT_THAT(process->Stderr(), HasSubstr("goes on from here"));
  }
  EXPECT_GE(TokensById(output).size(), 1u);
}

TEST(OfflineProcessTest, AServerMayAnswerInstead) {
  FakeServer server;
  const std::string input = WriteInput("server.in");
  const std::string output = TempPath("server.out");
  const auto process = StartOffline(
      input, output, {"--target=" + server.address(), "--model=", "--jobs=2"});
  EXPECT_EQ(*process->Wait(kPatience), 0) << process->Stderr();
  EXPECT_EQ(TokensById(output).size(), static_cast<size_t>(kNumLines));
}

TEST(OfflineProcessTest, WrongUsageIsToldInALine) {
  const std::string output = TempPath("usage.out");
  const auto none = StartOffline("", output);
  EXPECT_EQ(*none->Wait(kPatience), 2);
  EXPECT_THAT(none->Stderr(), HasSubstr("belong together"));
  const auto jobs = StartOffline("x", output, {"--jobs=-1"});
  EXPECT_EQ(*jobs->Wait(kPatience), 2);
  EXPECT_THAT(jobs->Stderr(), HasSubstr("--jobs=-1"));
}

TEST(OfflineProcessTest, InputsAndFlagsAreLookedAtBeforeAnythingIsLoaded) {
  const std::string output = TempPath("early.out");
  const std::string input = WriteInput("early.in");
  struct Case {
    std::string input;
    std::string flag;
    int exit_status;
    std::string message;
  };
  const std::vector<Case> cases = {
      {"/nowhere", "", 1, "--input=/nowhere: No such file or directory"},
      {"/dev", "", 1, "--input=/dev: it is no regular file"},
      {input, "--dtype=int3", 2, "--dtype=int3: it may be auto or float32"},
      {input, "--load_format=pt", 2, "--load_format=pt: it may be auto or"},
      {input, "--device=abacus", 2, "--device=abacus"},
      {input, "--memory_utilization=7", 2, "above 0 and at most 1"},
      {input, "--block_size=3", 2, "a power of two, 1 to 256"},
      {input, "--max_num_seqs=0", 2, "1 to 1048576"},
      {input, "--tensor_parallel_size=0", 2, "it may be 1 or more"},
      {input, "--json_schema=@/nowhere", 2, "/nowhere"},
  };
  for (const Case& c : cases) {
    std::filesystem::remove(output);
    const auto process = c.flag.empty()
                             ? StartOffline(c.input, output)
                             : StartOffline(c.input, output, {c.flag});
    EXPECT_EQ(*process->Wait(kPatience), c.exit_status) << c.flag;
    EXPECT_THAT(process->Stderr(),
                AllOf(HasSubstr(c.message), Not(HasSubstr("Loading"))));
    EXPECT_FALSE(std::filesystem::exists(output)) << c.flag;
  }
}

TEST(OfflineProcessTest, WhatTheModelDoesNotAllowIsWrongUsage) {
  const std::string input = WriteInput("model.in");
  for (const auto& [flag, message] :
       {std::pair{"--tensor_parallel_size=5", "sizes that would: 1, 2"},
        std::pair{"--max_model_len=99999", "2048 positions"}}) {
    const auto process = StartOffline(input, TempPath("model.out"), {flag});
    EXPECT_EQ(*process->Wait(kPatience), 2) << flag;
    EXPECT_THAT(process->Stderr(), AllOf(HasSubstr(flag), HasSubstr(message)));
  }
}

}  // namespace
}  // namespace quire
