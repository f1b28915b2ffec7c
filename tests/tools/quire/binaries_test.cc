// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/binaries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace quire {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class BinariesTest : public testing::Test {
 protected:
  BinariesTest() { fs::remove_all(root_); }
  std::string MakeProgram(const fs::path& path) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << "#!/bin/sh\n";
    chmod((root_ / path).c_str(), 0755);
    return root_ / path;
  }

  const fs::path root_ = fs::path(testing::TempDir()) / "binaries";
  const std::string launcher_ = root_ / "tools/quire/quire";
};

TEST_F(BinariesTest, PrefersTheProgramBesideTheLauncher) {
  const std::string tree = MakeProgram("worker/quire_worker");
  EXPECT_EQ(FindBinary(launcher_, "worker", "quire_worker").value(), tree);
  const std::string runfile =
      MakeProgram("tools/quire/quire.runfiles/quire/worker/quire_worker");
  EXPECT_EQ(FindBinary(launcher_, "worker", "quire_worker").value(), runfile);
  const std::string beside = MakeProgram("tools/quire/quire_worker");
  EXPECT_EQ(FindBinary(launcher_, "worker", "quire_worker").value(), beside);
}

TEST_F(BinariesTest, AMissingProgramSaysHowToBuildIt) {
  const auto found = FindBinary(launcher_, "worker", "quire_worker");
  EXPECT_EQ(found.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(found.status().message()),
              HasSubstr("bazel build --config=opt //worker:quire_worker"));
}

TEST_F(BinariesTest, AFolderIsNoProgram) {
  fs::create_directories(root_ / "worker/quire_worker");
  EXPECT_FALSE(FindBinary(launcher_, "worker", "quire_worker").ok());
}

TEST_F(BinariesTest, FindsTheDemoModelInTheRunfiles) {
  EXPECT_EQ(FindDemoModel(launcher_).status().code(),
            absl::StatusCode::kNotFound);
  const fs::path model = launcher_ + ".runfiles/quire/tools/demo_model/model";
  fs::create_directories(model);
  std::ofstream(model / "config.json") << "{}";
  EXPECT_EQ(FindDemoModel(launcher_).value(), fs::canonical(model).string());
  // A folder of links, as runfiles are, stands for the one that holds the
  // files.
  const fs::path home = fs::path(testing::TempDir()) / "home_of_the_model";
  fs::create_directories(home);
  fs::rename(model / "config.json", home / "config.json");
  fs::create_symlink(home / "config.json", model / "config.json");
  EXPECT_EQ(FindDemoModel(launcher_).value(), fs::canonical(home).string());
}

TEST(OwnPathTest, IsThisProgram) {
  EXPECT_THAT(OwnPath(), testing::EndsWith("binaries_test"));
}

}  // namespace
}  // namespace quire
