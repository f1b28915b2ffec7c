// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/mapped_file.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/weights/model_folder.h"

namespace quire {
namespace {

constexpr int64_t kBytes = 64 << 10;

TEST(MappedFileTest, HoldsTheFilesBytes) {
  ModelFolder folder;
  folder.Write("f", "some bytes");
  const auto file = MappedFile::Open(folder.PathOf("f"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(std::string((*file)->data(), (*file)->bytes()), "some bytes");
  EXPECT_FALSE((*file)->damaged());
}

TEST(MappedFileTest, AnEmptyFileHasNoBytes) {
  ModelFolder folder;
  folder.Write("f", "");
  const auto file = MappedFile::Open(folder.PathOf("f"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->bytes(), 0);
  EXPECT_FALSE((*file)->damaged());
}

TEST(MappedFileTest, LostPagesReadAsZerosAndAreRemembered) {
  ModelFolder folder;
  folder.Write("f", std::string(kBytes, 'x'));
  const auto file = MappedFile::Open(folder.PathOf("f"));
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::resize_file(folder.PathOf("f"), 1);
  const volatile char* data = (*file)->data();
  EXPECT_EQ(data[0], 'x');
  EXPECT_FALSE((*file)->damaged());
  EXPECT_EQ(data[kBytes - 1], 0);
  EXPECT_TRUE((*file)->damaged());
  // The next file of the same place in the table starts anew.
  const auto other = MappedFile::Open(folder.PathOf("f"));
  ASSERT_TRUE(other.ok());
  EXPECT_FALSE((*other)->damaged());
}

TEST(MappedFileTest, ReleasedPagesAreReadAgain) {
  ModelFolder folder;
  folder.Write("f", std::string(kBytes, 'x'));
  const auto file = MappedFile::Open(folder.PathOf("f"));
  ASSERT_TRUE(file.ok()) << file.status();
  const volatile char* data = (*file)->data();
  EXPECT_EQ(data[5000], 'x');
  (*file)->Release(4097, 10000);
  EXPECT_EQ(data[5000], 'x');
}

TEST(MappedFileDeathTest, OtherBusErrorsStillKill) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  ModelFolder folder;
  folder.Write("f", "x");
  const auto file = MappedFile::Open(folder.PathOf("f"));
  ASSERT_TRUE(file.ok()) << file.status();
  // By the signal itself, or by a sanitizer's report of it.
  EXPECT_DEATH(raise(SIGBUS), "");
}

}  // namespace
}  // namespace quire
