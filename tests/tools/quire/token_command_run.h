// SPDX-License-Identifier: Apache-2.0
//
// Runs a command that needs a tokenizer, as a terminal would see it.
#ifndef TESTS_TOOLS_QUIRE_TOKEN_COMMAND_RUN_H_
#define TESTS_TOOLS_QUIRE_TOKEN_COMMAND_RUN_H_

#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/common/text/text_testing.h"

namespace quire {

class TokenCommandRun : public testing::Test {
 protected:
  TokenCommandRun() : folder_(std::string(testing::TempDir()) + "/model") {
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ + "/tokenizer.json") << ReadTestData("gpt2.json");
  }

  // Runs a command with `input` as its standard input.
  int Run(int (*command)(const std::vector<std::string>&),
          std::vector<std::string> args, const std::string& input = "") {
    args.push_back("--model=" + folder_);
    std::istringstream in(input);
    std::streambuf* const old = std::cin.rdbuf(in.rdbuf());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = command(args);
    std::cout.flush();
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    std::cin.rdbuf(old);
    return code;
  }

  const std::string folder_;
  std::string out_;
  std::string err_;
};

}  // namespace quire

#endif  // TESTS_TOOLS_QUIRE_TOKEN_COMMAND_RUN_H_
