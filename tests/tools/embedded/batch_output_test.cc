// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/batch_output.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

class BatchOutputTest : public testing::Test {
 protected:
  BatchOutputTest()
      : path_(std::string(testing::TempDir()) + "/" +
              testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove(path_);
  }
  void Write(const std::string& text) { std::ofstream(path_) << text; }
  std::string Read() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const std::string path_;
};

TEST_F(BatchOutputTest, LinesAreAddedAndKnownAgain) {
  {
    auto output = BatchOutput::Open(path_);
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_FALSE((*output)->Has("a"));
    ASSERT_TRUE((*output)->Append("a", R"({"id":"a"})").ok());
    EXPECT_TRUE((*output)->Has("a"));
  }
  auto again = BatchOutput::Open(path_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE((*again)->Has("a"));
  ASSERT_TRUE((*again)->Append("b", R"({"id":"b"})").ok());
  EXPECT_EQ(Read(), "{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
}

TEST_F(BatchOutputTest, ATornLastLineIsCutOff) {
  const std::string whole = "{\"id\":\"a\"}\n";
  // Wherever the kill came, even before the line's end alone.
  for (const std::string torn : {"{", "{\"id\":\"b\"", "{\"id\":\"b\"}"}) {
    Write(whole + torn);
    auto output = BatchOutput::Open(path_);
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_TRUE((*output)->Has("a"));
    EXPECT_FALSE((*output)->Has("b"));
    EXPECT_EQ(Read(), whole);
  }
}

TEST_F(BatchOutputTest, ErrorsAreLeftOutAndNotKnown) {
  Write(
      "{\"id\":\"a\",\"text\":\"x\"}\n{\"id\":\"b\",\"error\":\"hot\"}\n"
      "{\"id\":\"c\",\"text\":\"y\"}\n{\"id\":\"d\",\"err");
  std::filesystem::permissions(path_, std::filesystem::perms::owner_read |
                                          std::filesystem::perms::owner_write);
  auto output = BatchOutput::Open(path_);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_TRUE((*output)->Has("a"));
  EXPECT_FALSE((*output)->Has("b"));
  EXPECT_TRUE((*output)->Has("c"));
  const std::string kept =
      "{\"id\":\"a\",\"text\":\"x\"}\n{\"id\":\"c\",\"text\":\"y\"}\n";
  EXPECT_EQ(Read(), kept);
  ASSERT_TRUE((*output)->Append("b", "{\"id\":\"b\"}").ok());
  EXPECT_EQ(Read(), kept + "{\"id\":\"b\"}\n");
  // The file in the other's place is locked and as private as that one was.
  EXPECT_EQ(BatchOutput::Open(path_).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(
      std::filesystem::status(path_).permissions(),
      std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_FALSE(std::filesystem::exists(path_ + ".rewritten"));
}

TEST_F(BatchOutputTest, ALinkToTheFileStaysOne) {
  const std::string link = path_ + ".link";
  std::filesystem::remove(link);
  Write("{\"id\":\"b\",\"error\":\"hot\"}\n");
  std::filesystem::create_symlink(path_, link);
  ASSERT_TRUE(BatchOutput::Open(link).ok());
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(Read(), "");
}

TEST_F(BatchOutputTest, AnotherFileIsNotTouched) {
  const std::string mine = "{\"id\":\"a\",\"error\":\"hot\"}\n";
  for (const std::string text : {"notes\n", "{\"text\":\"x\"}\n", "\n"}) {
    Write(mine + text + "torn");
    const auto output = BatchOutput::Open(path_);
    EXPECT_EQ(output.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(output.status().message()), HasSubstr("line 2"));
    EXPECT_EQ(Read(), mine + text + "torn");
  }
  EXPECT_FALSE(BatchOutput::Open("/nowhere/out").ok());
}

TEST_F(BatchOutputTest, TwoRunsDoNotShareAFile) {
  const auto first = BatchOutput::Open(path_);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(BatchOutput::Open(path_).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace quire
