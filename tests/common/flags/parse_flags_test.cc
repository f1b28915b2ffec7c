// SPDX-License-Identifier: Apache-2.0
#include "common/flags/parse_flags.h"

#include <cstdlib>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

ABSL_FLAG(int, max_num_seqs, 128, "Sequences of a step.");
ABSL_FLAG(std::string, model, "", "The model's folder.");
ABSL_FLAG(bool, exit_with_parent, false, "Die with the parent process.");

namespace quire {
namespace {

absl::StatusOr<std::vector<std::string>> Parse(std::vector<std::string> args) {
  args.insert(args.begin(), "program");
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  return ParseFlags(static_cast<int>(argv.size()), argv.data());
}

class ParseFlagsTest : public testing::Test {
 private:
  absl::FlagSaver saver_;
};

TEST_F(ParseFlagsTest, SetsFlagsInEverySpellingAndKeepsTheRest) {
  auto rest = Parse({"--max-num-seqs=7", "first", "--model", "/m",
                     "-exit_with_parent", "--", "--not_a_flag"});
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_EQ(absl::GetFlag(FLAGS_max_num_seqs), 7);
  EXPECT_EQ(absl::GetFlag(FLAGS_model), "/m");
  EXPECT_TRUE(absl::GetFlag(FLAGS_exit_with_parent));
  EXPECT_THAT(*rest, testing::ElementsAre("first", "--not_a_flag"));
}

TEST_F(ParseFlagsTest, UnknownFlagNamesTheNearest) {
  EXPECT_EQ(Parse({"--max_num_seq=7"}).status().message(),
            "unknown flag --max_num_seq; did you mean --max_num_seqs?");
  EXPECT_EQ(Parse({"--zzzzzzzzz=7"}).status().message(),
            "unknown flag --zzzzzzzzz; --help lists all flags");
}

TEST_F(ParseFlagsTest, BadValueNamesTheFlag) {
  EXPECT_THAT(std::string(Parse({"--max_num_seqs=lots"}).status().message()),
              testing::StartsWith("--max_num_seqs cannot be \"lots\""));
  EXPECT_EQ(Parse({"--model"}).status().message(),
            "--model needs a value: --model=...");
}

TEST_F(ParseFlagsTest, OnlySwitchesCanBeNegated) {
  ASSERT_TRUE(Parse({"--exit_with_parent", "--noexit_with_parent"}).ok());
  EXPECT_FALSE(absl::GetFlag(FLAGS_exit_with_parent));
  EXPECT_FALSE(Parse({"--nomodel"}).ok());
}

TEST_F(ParseFlagsTest, CommandLineWinsOverEnvironment) {
  setenv("QUIRE_MAX_NUM_SEQS", "3", /*overwrite=*/1);
  setenv("QUIRE_MODEL", "from-env", /*overwrite=*/1);
  auto rest = Parse({"--max_num_seqs=5"});
  unsetenv("QUIRE_MAX_NUM_SEQS");
  unsetenv("QUIRE_MODEL");
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_EQ(absl::GetFlag(FLAGS_max_num_seqs), 5);
  EXPECT_EQ(absl::GetFlag(FLAGS_model), "from-env");
}

TEST_F(ParseFlagsTest, EffectiveFlagsAreOursAlone) {
  ASSERT_TRUE(Parse({"--max_num_seqs=9"}).ok());
  EXPECT_THAT(
      EffectiveFlags(),
      testing::UnorderedElementsAre(
          testing::Pair("max_num_seqs", "9"), testing::Pair("model", ""),
          testing::Pair("exit_with_parent", "false")));
}

TEST(NearestNameTest, IsEmptyWhenNothingIsNear) {
  EXPECT_EQ(NearestName("prot", {"port", "host"}), "port");
  EXPECT_EQ(NearestName("temperature", {"port", "host"}), "");
}

}  // namespace
}  // namespace quire
