// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/batch_input.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

BatchLine Parse(const std::string& line, uint64_t seed = 0) {
  v1::SamplingParams defaults;
  defaults.set_max_tokens(5);
  defaults.set_temperature(0.5);
  defaults.add_stop("default");
  return ParseBatchLine(3, line, defaults, seed);
}

TEST(BatchInputTest, ALineIsARequest) {
  const BatchLine line = Parse(
      R"({"id": "a", "prompt": "Hi", "sampling": {"max_tokens": 9,
          "topP": 0.5, "stop": ["x", "y"]}})");
  ASSERT_TRUE(line.status.ok()) << line.status;
  EXPECT_EQ(line.id, "a");
  EXPECT_EQ(line.request.text(), "Hi");
  const v1::SamplingParams& sampling = line.request.sampling();
  EXPECT_EQ(sampling.max_tokens(), 9u);
  EXPECT_EQ(sampling.temperature(), 0.5f);  // the default
  EXPECT_EQ(sampling.top_p(), 0.5f);
  EXPECT_THAT(sampling.stop(), ElementsAre("x", "y"));
}

TEST(BatchInputTest, PromptsMayBeTokensAndIdsNumbers) {
  const BatchLine line = Parse(R"({"id": 7, "token_ids": [1, 2]})");
  ASSERT_TRUE(line.status.ok()) << line.status;
  EXPECT_EQ(line.id, "7");
  EXPECT_THAT(line.request.token_ids().ids(), ElementsAre(1, 2));
  EXPECT_THAT(line.request.sampling().stop(), ElementsAre("default"));
  EXPECT_EQ(Parse(R"({"prompt": ""})").id, "line-3");
}

TEST(BatchInputTest, SeedsComeFromIds) {
  const auto seed = [](const std::string& line, uint64_t base) {
    return Parse(line, base).request.sampling().seed();
  };
  const std::string a = R"({"id": "a", "prompt": "x"})";
  EXPECT_EQ(seed(a, 1), seed(R"({"id": "a", "prompt": "y"})", 1));
  EXPECT_NE(seed(a, 1), seed(a, 2));
  EXPECT_NE(seed(a, 1), seed(R"({"id": "b", "prompt": "x"})", 1));
  EXPECT_EQ(seed(R"({"prompt": "x", "sampling": {"seed": 42}})", 1), 42);
}

TEST(BatchInputTest, BadLinesSayWhichAndWhy) {
  for (const auto& [line, words] :
       std::vector<std::pair<std::string, std::string>>{
           {"", "not a JSON object"},
           {"[1]", "not a JSON object"},
           {"{}", "one of \"prompt\" and \"token_ids\""},
           {R"({"prompt": "a", "token_ids": [1]})", "one of"},
           {R"({"prompt": 1})", "must be a string"},
           {R"({"token_ids": [-1]})", "list of ids"},
           {R"({"token_ids": "1"})", "list of ids"},
           {R"({"prompt": "a", "id": ""})", "\"id\" must be"},
           {R"({"prompt": "a", "temperature": 1})",
            "\"temperature\" is unknown"},
           {R"({"prompt": "a", "sampling": []})", "not a JSON object"},
           {R"({"prompt": "a", "sampling": {"heat": 1}})", "heat"},
           {R"({"prompt": "a", "sampling": {"top_k": "x"}})", "top"},
       }) {
    const BatchLine parsed = Parse(line);
    EXPECT_EQ(parsed.status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(parsed.status.message()), HasSubstr("line 3: "));
    EXPECT_THAT(std::string(parsed.status.message()), HasSubstr(words));
    EXPECT_EQ(parsed.status.message().find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace quire
