// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/batch_run.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

class BatchRunTest : public testing::Test {
 protected:
  BatchRunTest()
      : folder_(std::string(testing::TempDir()) + "/" +
                testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    options_.input = folder_ + "/in";
    options_.jobs = 3;
    options_.sampling.set_max_tokens(2);
  }

  void WriteInput(const std::string& text) {
    std::ofstream(options_.input) << text;
  }
  void WriteInput(int num_lines) {
    std::string text;
    for (int i = 0; i < num_lines; ++i) {
      absl::StrAppend(&text, "{\"id\": \"r", i, "\", \"prompt\": \"p", i,
                      "\"}\n");
    }
    WriteInput(text);
  }

  absl::StatusOr<BatchCounts> Run(const StartRequest& start) {
    auto output = BatchOutput::Open(folder_ + "/out");
    EXPECT_TRUE(output.ok()) << output.status();
    std::ostringstream silent;
    RealClock clock;
    Progress progress("", Progress::Unit::kCount, ProgressStyle::kNone, &silent,
                      &clock);
    return RunBatch(options_, start, output->get(), &progress, &stop_);
  }

  // Every output line by its id; ids are there once.
  std::map<std::string, Json> Answers() const {
    std::map<std::string, Json> answers;
    std::ifstream file(folder_ + "/out");
    for (std::string line; std::getline(file, line);) {
      const Json json = Json::parse(line);
      EXPECT_TRUE(answers.emplace(json["id"], json).second) << line;
    }
    return answers;
  }

  static LLMResult Echo(const v1::GenerateRequest& request) {
    LLMResult result;
    result.answers.resize(1);
    result.answers[0].text = "echo " + request.text();
    result.answers[0].token_ids = {1, 2};
    result.answers[0].finish_reason = v1::FINISH_REASON_LENGTH;
    return result;
  }

  const std::string folder_;
  BatchOptions options_;
  std::atomic<bool> stop_ = false;
};

TEST_F(BatchRunTest, EveryLineIsAnsweredOnceAndNotManyAtATime) {
  WriteInput(10);
  std::vector<std::function<void()>> running;
  const auto counts = Run([&](const v1::GenerateRequest& request,
                              std::function<void(LLMResult)> done) {
    running.push_back([request, done] { done(Echo(request)); });
    EXPECT_LE(running.size(), 3u);
    // The last ones end first.
    if (running.size() == 3 || request.text() == "p9") {
      while (!running.empty()) {
        running.back()();
        running.pop_back();
      }
    }
  });
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->num_lines, 10);
  EXPECT_EQ(counts->num_answered, 10);
  EXPECT_EQ(counts->num_output_tokens, 20);
  const auto answers = Answers();
  ASSERT_EQ(answers.size(), 10u);
  EXPECT_EQ(answers.at("r4")["text"], "echo p4");
  EXPECT_EQ(answers.at("r4")["token_ids"], Json({1, 2}));
  EXPECT_EQ(answers.at("r4")["finish_reason"], "length");
}

TEST_F(BatchRunTest, WhatTheFileHasIsNotAskedAgain) {
  WriteInput(4);
  std::ofstream(folder_ + "/out") << "{\"id\":\"r1\"}\n{\"id\":\"r2\",";
  std::set<std::string> asked;
  const auto counts = Run([&](const v1::GenerateRequest& request,
                              std::function<void(LLMResult)> done) {
    asked.insert(request.text());
    done(Echo(request));
  });
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->num_skipped, 1);
  EXPECT_EQ(asked, (std::set<std::string>{"p0", "p2", "p3"}));
  EXPECT_EQ(Answers().size(), 4u);
}

TEST_F(BatchRunTest, BadLinesAndRefusedOnesAreAnsweredByErrors) {
  WriteInput(
      "{\"id\": \"a\", \"prompt\": \"x\"}\nnothing\n"
      "{\"id\": \"a\", \"prompt\": \"y\"}\n{\"id\": \"hot\", \"prompt\": "
      "\"z\"}\n");
  const auto counts = Run([&](const v1::GenerateRequest& request,
                              std::function<void(LLMResult)> done) {
    LLMResult result = Echo(request);
    if (request.text() == "z") {
      result.status = absl::InvalidArgumentError("too hot");
    }
    done(std::move(result));
  });
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->num_answered, 1);
  EXPECT_EQ(counts->num_bad, 3);
  const auto answers = Answers();
  EXPECT_EQ(answers.at("a")["text"], "echo x");
  EXPECT_THAT(answers.at("line-2")["error"].get<std::string>(),
              HasSubstr("line 2: not a JSON object"));
  EXPECT_THAT(answers.at("line-3")["error"].get<std::string>(),
              HasSubstr("\"a\" is another line's id"));
  EXPECT_EQ(answers.at("hot")["error"], "too hot");
}

TEST_F(BatchRunTest, ALineThatWasRefusedIsTriedAgain) {
  WriteInput("{\"id\": \"a\", \"prompt\": \"x\"}\nnothing\n");
  const StartRequest start = [](const v1::GenerateRequest& request,
                                std::function<void(LLMResult)> done) {
    LLMResult result = Echo(request);
    if (request.text() == "x") {
      result.status = absl::InvalidArgumentError("too hot");
    }
    done(std::move(result));
  };
  for (int run = 0; run < 2; ++run) {
    const auto counts = Run(start);
    ASSERT_TRUE(counts.ok()) << counts.status();
    EXPECT_EQ(counts->num_bad, 2);
    EXPECT_EQ(counts->num_skipped, 0);
    EXPECT_EQ(Answers().size(), 2u);
  }
  WriteInput(
      "{\"id\": \"a\", \"prompt\": \"y\"}\n{\"id\": \"b\", \"prompt\": "
      "\"z\"}\n");
  const auto counts = Run(start);
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->num_answered, 2);
  const auto answers = Answers();
  ASSERT_EQ(answers.size(), 2u);  // none for "line-2"
  EXPECT_EQ(answers.at("a")["text"], "echo y");
  EXPECT_EQ(answers.at("b")["text"], "echo z");
}

TEST_F(BatchRunTest, AFailureEndsTheRunAndTheNextGoesOn) {
  WriteInput(8);
  const auto failed = Run([&](const v1::GenerateRequest& request,
                              std::function<void(LLMResult)> done) {
    LLMResult result = Echo(request);
    if (request.text() == "p3") {
      result.status = absl::UnavailableError("the workers left");
    }
    done(std::move(result));
  });
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(failed.status().message()),
              HasSubstr("\"r3\": the workers left"));
  EXPECT_EQ(Answers().size(), 3u);
  const auto counts =
      Run([&](const v1::GenerateRequest& request,
              std::function<void(LLMResult)> done) { done(Echo(request)); });
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->num_skipped, 3);
  EXPECT_EQ(Answers().size(), 8u);
}

TEST_F(BatchRunTest, AfterAStopNothingIsWritten) {
  WriteInput(8);
  std::function<void()> late;
  const auto counts = Run([&](const v1::GenerateRequest& request,
                              std::function<void(LLMResult)> done) {
    if (request.text() == "p1") {
      late = [request, done] { done(Echo(request)); };
      stop_ = true;
    } else {
      done(Echo(request));
    }
  });
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_TRUE(counts->was_stopped);
  late();
  EXPECT_EQ(Answers().size(), 1u);
}

TEST_F(BatchRunTest, SeveralAnswersAreAList) {
  WriteInput(1);
  const auto counts = Run([&](const v1::GenerateRequest& request,
                              std::function<void(LLMResult)> done) {
    LLMResult result = Echo(request);
    result.answers.push_back(result.answers[0]);
    done(std::move(result));
  });
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(Answers().at("r0")["answers"].size(), 2u);
}

TEST_F(BatchRunTest, AMissingInputIsNamed) {
  const auto counts =
      Run([](const v1::GenerateRequest&, std::function<void(LLMResult)>) {});
  EXPECT_EQ(counts.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(counts.status().message()), HasSubstr("/in"));
}

}  // namespace
}  // namespace quire
