// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/log_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace quire {
namespace {

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class LogFileTest : public testing::Test {
 protected:
  LogFileTest() {
    unlink(path_.c_str());
    unlink(old_path_.c_str());
  }
  std::unique_ptr<LogFile> Open(int64_t max_bytes) {
    auto file = LogFile::Open(path_, max_bytes);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }

  const std::string path_ = testing::TempDir() + "/child.log";
  const std::string old_path_ = path_ + ".1";
};

TEST_F(LogFileTest, ALogGoesOnWhereItEnded) {
  Open(/*max_bytes=*/100)->Append("one\n");
  Open(/*max_bytes=*/100)->Append("two\n");
  EXPECT_EQ(ReadFile(path_), "one\ntwo\n");
  EXPECT_NE(access(old_path_.c_str(), F_OK), 0);
}

TEST_F(LogFileTest, BeyondItsLimitTheNewestAreKept) {
  const auto file = Open(/*max_bytes=*/8);
  for (const char* line : {"one\n", "two\n", "three\n", "four\n", "five\n"}) {
    file->Append(line);
  }
  EXPECT_EQ(ReadFile(old_path_), "three\nfour\n");
  EXPECT_EQ(ReadFile(path_), "five\n");
}

TEST_F(LogFileTest, ALineStaysInOneFile) {
  const auto file = Open(/*max_bytes=*/8);
  file->Append("one\ntwo\nth");
  file->Append("ree\nfour\nfi");
  EXPECT_EQ(ReadFile(old_path_), "one\ntwo\nthree\n");
  EXPECT_EQ(ReadFile(path_), "four\nfi");
}

TEST_F(LogFileTest, WhatAnEarlierProcessWroteCounts) {
  Open(/*max_bytes=*/8)->Append("one\ntwo\n");
  Open(/*max_bytes=*/8)->Append("three\n");
  EXPECT_EQ(ReadFile(old_path_), "one\ntwo\n");
  EXPECT_EQ(ReadFile(path_), "three\n");
}

TEST_F(LogFileTest, TextWithoutLinesIsBoundedToo) {
  const auto file = Open(/*max_bytes=*/4);
  for (const char* bytes : {"1234", "56789", "abcdefgh"}) file->Append(bytes);
  EXPECT_EQ(ReadFile(old_path_), "56789");
  EXPECT_EQ(ReadFile(path_), "abcdefgh");
}

TEST_F(LogFileTest, AFolderThatIsNotThereIsNamed) {
  const auto file = LogFile::Open("/nowhere/child.log", 8);
  EXPECT_EQ(file.status().message(),
            "/nowhere/child.log: No such file or directory");
}

}  // namespace
}  // namespace quire
