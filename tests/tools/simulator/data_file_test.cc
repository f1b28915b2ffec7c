// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/data_file.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::EndsWith;
using ::testing::Not;

TEST(DataFileTest, APresetIsFoundByItsName) {
  const std::string path = PresetFile("h200_llama8b");
  EXPECT_THAT(path, EndsWith("tools/simulator/presets/h200_llama8b.json"));
  EXPECT_TRUE(std::filesystem::exists(path)) << path;
}

TEST(DataFileTest, AWorkloadIsFoundByItsName) {
  const std::string path = WorkloadFile("alpaca");
  EXPECT_THAT(path, EndsWith("tools/workloads/alpaca_paper.jsonl"));
  EXPECT_TRUE(std::filesystem::exists(path)) << path;
}

TEST(DataFileTest, WhatLooksLikeAPathIsThePath) {
  for (const char* path : {"mine/preset", "./preset", "preset.json"}) {
    EXPECT_EQ(PresetFile(path), path);
  }
  for (const char* path : {"mine/load", "load.jsonl"}) {
    EXPECT_EQ(WorkloadFile(path), path);
  }
}

// So the message of whoever opens it names what was looked for.
TEST(DataFileTest, WhatIsNowhereIsNamedFromTheRepositorysRoot) {
  EXPECT_EQ(PresetFile("abacus"), "tools/simulator/presets/abacus.json");
  EXPECT_EQ(WorkloadFile("silence"), "tools/workloads/silence_paper.jsonl");
}

TEST(DataFileTest, PresetsAreListedByTheNamesThatFindThem) {
  const std::vector<std::string> names = PresetNames();
  EXPECT_THAT(names, Contains("h200_llama8b"));
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_THAT(names, Each(Not(EndsWith(".json"))));
  for (const std::string& name : names) {
    EXPECT_TRUE(std::filesystem::exists(PresetFile(name))) << name;
  }
}

TEST(DataFileTest, AProgramsOwnDataComesBeforeTheWorkingFolders) {
  namespace fs = std::filesystem;
  const fs::path root = fs::path(testing::TempDir()) / "quire";
  fs::create_directories(root / "tools/workloads");
  const fs::path mine = root / "tools/workloads/alpaca_paper.jsonl";
  std::ofstream(mine) << "{}";
  const std::string data = std::getenv("TEST_SRCDIR");
  ASSERT_EQ(setenv("TEST_SRCDIR", testing::TempDir().c_str(), 1), 0);
  EXPECT_EQ(fs::path(WorkloadFile("alpaca")).lexically_normal(),
            mine.lexically_normal());
  setenv("TEST_SRCDIR", data.c_str(), 1);
}

}  // namespace
}  // namespace quire
