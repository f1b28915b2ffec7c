// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/host_limits.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

// A small /proc and /sys of a machine with 1000 MiB, of which 600 are free.
class HostLimitsTest : public testing::Test {
 protected:
  HostLimitsTest() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = testing::TempDir() + "/host_limits_" + test->name();
    std::filesystem::remove_all(root_);
    Write("/proc/meminfo",
          "MemTotal:        1024000 kB\nMemFree:  1 kB\n"
          "MemAvailable:     614400 kB\n");
  }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  static std::string Mib(int64_t mib) { return std::to_string(mib << 20); }

  std::string root_;
};

TEST_F(HostLimitsTest, WithoutGroupsTheMachineIsTheLimit) {
  const auto info = ReadHostMemory(root_);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->total_bytes, int64_t{1000} << 20);
  EXPECT_EQ(info->free_bytes, int64_t{600} << 20);
}

TEST_F(HostLimitsTest, Version2GroupsLimitAndTheTightestCounts) {
  Write("/proc/self/cgroup", "0::/pod/box\n");
  Write("/sys/fs/cgroup/pod/box/memory.max", "max\n");
  Write("/sys/fs/cgroup/pod/memory.max", Mib(500));
  Write("/sys/fs/cgroup/pod/memory.current", Mib(300));
  Write("/sys/fs/cgroup/pod/memory.stat",
        "anon 5\ninactive_file " + Mib(100) + "\n");
  const auto info = ReadHostMemory(root_);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->total_bytes, int64_t{500} << 20);
  EXPECT_EQ(info->free_bytes, int64_t{300} << 20);
}

TEST_F(HostLimitsTest, Version1GroupsLimitFromInsideAContainer) {
  // The path is the host's; what is mounted is the container's own folder.
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/host/path\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", Mib(200));
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", Mib(50));
  const auto info = ReadHostMemory(root_);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->total_bytes, int64_t{200} << 20);
  EXPECT_EQ(info->free_bytes, int64_t{150} << 20);
}

TEST_F(HostLimitsTest, AHugeLimitIsNone) {
  Write("/proc/self/cgroup", "4:memory:/\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_EQ(ReadHostMemory(root_)->total_bytes, int64_t{1000} << 20);
}

TEST_F(HostLimitsTest, NoMeminfoIsAnError) {
  EXPECT_EQ(ReadHostMemory(root_ + "/nowhere").status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(HostLimitsTest, AQuotaOfOneProcessorIsOneCpu) {
  EXPECT_GE(NumUsableCpus(root_), 1);
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/cpu.max", "90000 100000\n");
  EXPECT_EQ(NumUsableCpus(root_), 1);
}

TEST_F(HostLimitsTest, Version1QuotasCountToo) {
  Write("/proc/self/cgroup", "3:cpu,cpuacct:/\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "1000\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(NumUsableCpus(root_), 1);
}

TEST(ThisHostTest, SaysSomethingPlausible) {
  const auto info = ReadHostMemory();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_GT(info->total_bytes, int64_t{64} << 20);
  EXPECT_GT(info->free_bytes, 0);
  EXPECT_LE(info->free_bytes, info->total_bytes);
  EXPECT_GE(NumUsableCpus(), 1);
}

}  // namespace
}  // namespace quire
