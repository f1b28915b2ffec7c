// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/flag_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "absl/strings/str_cat.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Values {
  std::string text = "default";
  bool on = false;
  int64_t count = 7;
  double ratio = 0.5;
  double timeout_s = 30;
  std::optional<int64_t> maybe;
  std::vector<std::string> stop;
  std::vector<std::string> metrics = {"ttft", "tpot"};
  std::optional<std::vector<std::string>> ids;
};

FlagSet MakeFlags(Values* values) {
  FlagSet flags("demo [flags]", "A demonstration.");
  flags.Add("text", &values->text, "some text");
  flags.Add("be_loud", &values->on, "whether to shout");
  flags.Add("max_tokens", &values->count, "how many");
  flags.Add("ratio", &values->ratio, "how much");
  flags.AddSeconds("timeout_s", &values->timeout_s, "how long");
  flags.Add("maybe", &values->maybe, "perhaps a number");
  flags.AddRepeated("stop", &values->stop, "where to end");
  flags.AddList("metrics", &values->metrics, "what to measure");
  flags.AddList("ids", &values->ids, "which ones, if any");
  return flags;
}

std::string ErrorOf(const std::vector<std::string>& args) {
  Values values;
  FlagSet flags = MakeFlags(&values);
  return std::string(flags.Parse(args).status().message());
}

TEST(FlagSetTest, SetsValuesInEverySpelling) {
  Values values;
  FlagSet flags = MakeFlags(&values);
  const auto rest = flags.Parse({"--text=a=b", "prompt", "--max-tokens", "-3",
                                 "--be_loud", "--ratio=1e-3", "--maybe=0"});
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_THAT(*rest, ElementsAre("prompt"));
  EXPECT_EQ(values.text, "a=b");
  EXPECT_EQ(values.count, -3);
  EXPECT_TRUE(values.on);
  EXPECT_EQ(values.ratio, 1e-3);
  EXPECT_EQ(values.maybe, 0);  // an explicit zero is not silence
  EXPECT_TRUE(flags.WasGiven("text"));
  EXPECT_FALSE(flags.WasGiven("stop"));
}

TEST(FlagSetTest, NegatesBooleansWithNo) {
  Values values;
  values.on = true;
  FlagSet flags = MakeFlags(&values);
  ASSERT_TRUE(flags.Parse({"--nobe_loud"}).ok());
  EXPECT_FALSE(values.on);
}

TEST(FlagSetTest, ListsTakeSeveralArgumentsAndReplaceTheirDefault) {
  Values values;
  FlagSet flags = MakeFlags(&values);
  const auto rest = flags.Parse(
      {"--metrics", "itl", "e2el,ttft", "--stop=a", "--stop", "b", "prompt"});
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_THAT(values.metrics, ElementsAre("itl", "e2el", "ttft"));
  EXPECT_THAT(values.stop, ElementsAre("a", "b"));
  EXPECT_THAT(*rest, ElementsAre("prompt"));
}

TEST(FlagSetTest, AnEmptyListIsToldFromNone) {
  Values values;
  FlagSet flags = MakeFlags(&values);
  ASSERT_TRUE(flags.Parse({}).ok());
  EXPECT_FALSE(values.ids.has_value());
  ASSERT_TRUE(flags.Parse({"--ids="}).ok());
  ASSERT_TRUE(values.ids.has_value());
  EXPECT_TRUE(values.ids->empty());
  ASSERT_TRUE(flags.Parse({"--ids=1,2", "--ids", "3", "4"}).ok());
  EXPECT_THAT(*values.ids, ElementsAre("1", "2", "3", "4"));
}

TEST(FlagSetTest, TwoDashesEndTheFlags) {
  Values values;
  FlagSet flags = MakeFlags(&values);
  const auto rest = flags.Parse({"--", "--text=x"});
  ASSERT_TRUE(rest.ok());
  EXPECT_THAT(*rest, ElementsAre("--text=x"));
  EXPECT_EQ(values.text, "default");
}

TEST(FlagSetTest, UnknownFlagNamesTheNearest) {
  EXPECT_EQ(ErrorOf({"--max_token=3"}),
            "unknown flag --max_token; did you mean --max_tokens?");
  EXPECT_EQ(ErrorOf({"--entirely_different"}),
            "unknown flag --entirely_different; --help lists the flags");
}

TEST(FlagSetTest, MalformedValuesNameFlagAndValue) {
  EXPECT_EQ(ErrorOf({"--max_tokens=many"}),
            "--max_tokens=many is not a whole number of at most 64 bits");
  EXPECT_EQ(ErrorOf({"--max_tokens=99999999999999999999"}),
            "--max_tokens=99999999999999999999 is not a whole number of at "
            "most 64 bits");
  EXPECT_EQ(ErrorOf({"--ratio=half"}), "--ratio=half is not a number");
  EXPECT_EQ(ErrorOf({"--be_loud=perhaps"}),
            "--be_loud=perhaps is not true or false");
  EXPECT_EQ(ErrorOf({"--text"}), "--text needs a value");
}

TEST(FlagSetTest, SecondsAreNotNegative) {
  for (const char* value : {"0", "0.5", "inf"}) {
    EXPECT_EQ(ErrorOf({absl::StrCat("--timeout_s=", value)}), "") << value;
  }
  for (const char* value : {"-1", "nan", "-inf"}) {
    EXPECT_EQ(ErrorOf({absl::StrCat("--timeout_s=", value)}),
              absl::StrCat("--timeout_s=", value, " is not 0 or more seconds"));
  }
  EXPECT_EQ(ErrorOf({"--timeout_s=soon"}), "--timeout_s=soon is not a number");
}

TEST(FlagSetTest, PassesUnknownFlagsOnWithTheirValues) {
  Values values;
  FlagSet flags = MakeFlags(&values);
  std::vector<std::string> unknown;
  flags.PassUnknownTo(&unknown);
  const auto rest =
      flags.Parse({"--dtype", "bfloat16", "--seed=3", "--lazy", "--text=t"});
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_THAT(unknown, ElementsAre("--dtype=bfloat16", "--seed=3", "--lazy"));
  EXPECT_EQ(values.text, "t");
}

TEST(FlagSetTest, ReadsTheEnvironmentButLetsArgumentsWin) {
  Values values;
  FlagSet flags = MakeFlags(&values);
  setenv("QUIRE_MAX_TOKENS", "11", 1);
  setenv("QUIRE_TEXT", "environment", 1);
  ASSERT_TRUE(flags.ReadEnvironment().ok());
  ASSERT_TRUE(flags.Parse({"--text=argument"}).ok());
  unsetenv("QUIRE_MAX_TOKENS");
  unsetenv("QUIRE_TEXT");
  EXPECT_EQ(values.count, 11);
  EXPECT_EQ(values.text, "argument");
}

TEST(FlagSetTest, HelpShowsFlagsAndDefaultsWithin80Columns) {
  Values values;
  FlagSet flags = MakeFlags(&values);
  ASSERT_TRUE(flags.Parse({"-h"}).ok());
  EXPECT_TRUE(flags.help_requested());
  const std::string help = flags.Help();
  EXPECT_THAT(help, HasSubstr("usage: demo [flags]"));
  EXPECT_THAT(help, HasSubstr("--max_tokens"));
  EXPECT_THAT(help, HasSubstr("how many (default 7)"));
  EXPECT_THAT(help, HasSubstr("(default ttft,tpot)"));
}

}  // namespace
}  // namespace quire
