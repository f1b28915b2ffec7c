// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_cache.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kOwn[] = "a_gpu/13/bucket";

GemmKey KeyOf(int64_t n) { return GemmKey(n, 4096, 128, 1, 0, 2); }

class GemmCacheTest : public testing::Test {
 protected:
  GemmCacheTest() { std::remove(path_.c_str()); }
  ~GemmCacheTest() override { std::remove(path_.c_str()); }

  GemmCache Open(const std::string& signature = kOwn) const {
    return GemmCache(path_, signature, /*num_words=*/2);
  }
  void Write(const std::string& text) const { std::ofstream(path_) << text; }
  std::string Read() const {
    std::stringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }

  const std::string path_ =
      absl::StrCat(testing::TempDir(), "/gemm_cache_", getpid());
};

TEST_F(GemmCacheTest, DevicesOfOneNameMayHaveOtherChoices) {
  EXPECT_EQ(GemmDevice("NVIDIA H100 80GB HBM3", 132),
            "NVIDIA_H100_80GB_HBM3/132sm");
  GemmCache whole = Open(GemmDevice("NVIDIA H200", 132));
  whole.Keep(KeyOf(1), {7, 8});
  EXPECT_THAT(Open(GemmDevice("NVIDIA H200", 132)).Find(KeyOf(1)),
              ElementsAre(7, 8));
  EXPECT_THAT(Open(GemmDevice("NVIDIA H200", 78)).Find(KeyOf(1)), IsEmpty());
}

TEST_F(GemmCacheTest, ChoicesAreKeptForTheNextProcess) {
  GemmCache first = Open();
  EXPECT_THAT(first.Find(KeyOf(1)), IsEmpty());
  first.Keep(KeyOf(1), {0x1f, 0xffffffffffffffff});
  EXPECT_THAT(first.Find(KeyOf(1)), ElementsAre(0x1f, 0xffffffffffffffff));
  EXPECT_EQ(Read(), "a_gpu/13/bucket 1 4096 128 1 0 2 1f ffffffffffffffff\n");
  const GemmCache second = Open();
  EXPECT_THAT(second.Find(KeyOf(1)), ElementsAre(0x1f, 0xffffffffffffffff));
  EXPECT_THAT(second.Find(KeyOf(2)), IsEmpty());
}

TEST_F(GemmCacheTest, TheLastChoiceCounts) {
  Open().Keep(KeyOf(1), {1, 2});
  Open().Keep(KeyOf(1), {3, 4});
  EXPECT_THAT(Open().Find(KeyOf(1)), ElementsAre(3, 4));
}

TEST_F(GemmCacheTest, ChoicesOfOtherVersionsAndDevicesArePassedOver) {
  for (const char* other : {"a_gpu/14/bucket", "b_gpu/13/bucket",
                            "a_gpu/13/any", "a_gpu/13/bucket/own2"}) {
    Open(other).Keep(KeyOf(1), {1, 2});
  }
  EXPECT_THAT(Open().Find(KeyOf(1)), IsEmpty());
  EXPECT_THAT(Open("a_gpu/13/any").Find(KeyOf(1)), ElementsAre(1, 2));
}

TEST_F(GemmCacheTest, BrokenLinesArePassedOver) {
  const std::string key = " 4096 128 1 0 2";
  Write(absl::StrCat("\n", kOwn, "\n",              //
                     kOwn, " 1 4096 128 1 0\n",     // no choice
                     kOwn, " 2", key, " 1\n",       // half of one
                     kOwn, " 3", key, " 1 2 3\n",   // too much
                     kOwn, " 4", key, " 1 x\n",     //
                     kOwn, " five", key, " 1 2\n",  //
                     kOwn, " 6", key, " 1 ", kOwn, " 7", key, " 1 2\n", kOwn,
                     " 8", key, " 1 2\n",        // the only one
                     kOwn, " 9", key, " 1 2"));  // whose end is missing
  const GemmCache cache = Open();
  for (int64_t n = 1; n <= 9; ++n) {
    if (n == 8) continue;
    EXPECT_THAT(cache.Find(KeyOf(n)), IsEmpty()) << n;
  }
  EXPECT_THAT(cache.Find(KeyOf(8)), ElementsAre(1, 2));
}

TEST_F(GemmCacheTest, ProcessesAppendSideBySide) {
  constexpr int64_t kNumChoices = 200;
  for (int64_t process = 0; process < 2; ++process) {
    if (fork() != 0) continue;
    GemmCache cache = Open();
    for (int64_t i = 0; i < kNumChoices; ++i) {
      cache.Keep(KeyOf(2 * i + process), {static_cast<uint64_t>(i), 7});
    }
    _exit(0);
  }
  while (wait(nullptr) > 0) {
  }
  const GemmCache cache = Open();
  for (int64_t n = 0; n < 2 * kNumChoices; ++n) {
    EXPECT_THAT(cache.Find(KeyOf(n)), ElementsAre(n / 2, 7));
  }
}

// Counts what is logged.
class Warnings final : public google::LogSink {
 public:
  Warnings() { google::AddLogSink(this); }
  ~Warnings() override { google::RemoveLogSink(this); }
  void send(google::LogSeverity, const char*, const char*, int, const std::tm*,
            const char* message, size_t size) override {
    texts.emplace_back(message, size);
  }

  std::vector<std::string> texts;
};

TEST_F(GemmCacheTest, AFileThatCannotBeWrittenIsToldOnce) {
  Warnings warnings;
  GemmCache cache("/nowhere/choices", kOwn, /*num_words=*/1);
  for (uint64_t n : {1, 2, 3}) cache.Keep(KeyOf(n), {n});
  EXPECT_THAT(warnings.texts, ElementsAre(HasSubstr("/nowhere/choices")));
  EXPECT_THAT(cache.Find(KeyOf(3)), ElementsAre(3));
}

TEST_F(GemmCacheTest, WithoutAPathChoicesAreRememberedAlone) {
  Warnings warnings;
  GemmCache cache("", kOwn, /*num_words=*/1);
  cache.Keep(KeyOf(1), {5});
  EXPECT_THAT(cache.Find(KeyOf(1)), ElementsAre(5));
  EXPECT_THAT(warnings.texts, IsEmpty());
}

}  // namespace
}  // namespace quire
