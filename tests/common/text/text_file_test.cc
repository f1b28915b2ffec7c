// SPDX-License-Identifier: Apache-2.0
#include "common/text/text_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <string>

namespace quire {
namespace {

TEST(TextFileTest, ReadsAllBytes) {
  const std::string path = testing::TempDir() + "/text_file";
  const std::string bytes("a\0b\xFF\n", 5);
  std::ofstream(path, std::ios::binary) << bytes;
  const auto read = ReadTextFile(path, bytes.size());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, bytes);
}

TEST(TextFileTest, AFileThatIsTooLargeIsRefusedWithItsSize) {
  const std::string path = testing::TempDir() + "/large_file";
  std::ofstream(path) << "12345";
  const auto read = ReadTextFile(path, 4);
  EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(read.status().message().find("5 bytes"), std::string::npos);
}

TEST(TextFileTest, AMissingFileIsNotFound) {
  const std::string path = testing::TempDir() + "/no_such_file";
  EXPECT_EQ(ReadTextFile(path, 1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadTextFile(path + "/deeper", 1).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(TextFileTest, FoldersAndPipesAreRefusedAtOnce) {
  EXPECT_EQ(ReadTextFile(testing::TempDir(), 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  const std::string pipe = testing::TempDir() + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(ReadTextFile(pipe, 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  remove(pipe.c_str());
}

}  // namespace
}  // namespace quire
