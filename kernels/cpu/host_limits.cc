// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/host_limits.h"

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace quire {
namespace {

// The first line's number; none for "max" or a missing file.
std::optional<int64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  int64_t value;
  if (!std::getline(file, line) || !absl::SimpleAtoi(line, &value)) {
    return std::nullopt;
  }
  return value;
}

// The number after `key` in a file of "key value" lines.
std::optional<int64_t> ReadField(const std::string& path,
                                 const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    int64_t value;
    if (words.size() >= 2 && words[0] == key &&
        absl::SimpleAtoi(words[1], &value)) {
      return value;
    }
  }
  return std::nullopt;
}

// The folders of this process's control group and of all above it, for a
// version 1 controller, or for version 2 ("").
std::vector<std::string> GroupFolders(const std::string& root,
                                      const std::string& controller) {
  std::ifstream file(absl::StrCat(root, "/proc/self/cgroup"));
  std::string line;
  std::string path = "/";
  bool found = false;
  while (!found && std::getline(file, line)) {
    // hierarchy:controllers:path, controllers empty in version 2
    const std::vector<std::string> parts =
        absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> names = absl::StrSplit(parts[1], ',');
    found = std::find(names.begin(), names.end(), controller) != names.end();
    if (found) path = parts[2];
  }
  const std::string mount = absl::StrCat(
      root, "/sys/fs/cgroup", controller.empty() ? "" : "/", controller);
  std::vector<std::string> folders;
  while (path.size() > 1) {
    folders.push_back(mount + path);
    path.resize(path.rfind('/'));
  }
  folders.push_back(mount);
  return folders;
}

// Lowers `info` to what a control group allows. Memory that holds clean file
// pages is free: it is given back under pressure.
void ApplyGroup(std::optional<int64_t> limit, std::optional<int64_t> usage,
                std::optional<int64_t> inactive_file, MemoryInfo* info) {
  if (!limit.has_value() || *limit <= 0 || *limit >= info->total_bytes) return;
  const int64_t used =
      std::max<int64_t>(0, usage.value_or(0) - inactive_file.value_or(0));
  info->total_bytes = *limit;
  info->free_bytes = std::clamp<int64_t>(*limit - used, 0, info->free_bytes);
}

}  // namespace

absl::StatusOr<MemoryInfo> ReadHostMemory(const std::string& root) {
  const std::string path = absl::StrCat(root, "/proc/meminfo");
  const std::optional<int64_t> total_kib = ReadField(path, "MemTotal:");
  const std::optional<int64_t> free_kib = ReadField(path, "MemAvailable:");
  if (!total_kib.has_value() || !free_kib.has_value()) {
    return absl::UnavailableError(
        absl::StrCat("no MemTotal and MemAvailable in ", path));
  }
  MemoryInfo info;
  info.total_bytes = *total_kib << 10;
  info.free_bytes = *free_kib << 10;
  for (const std::string& folder : GroupFolders(root, "")) {
    ApplyGroup(ReadNumber(folder + "/memory.max"),
               ReadNumber(folder + "/memory.current"),
               ReadField(folder + "/memory.stat", "inactive_file"), &info);
  }
  for (const std::string& folder : GroupFolders(root, "memory")) {
    ApplyGroup(ReadNumber(folder + "/memory.limit_in_bytes"),
               ReadNumber(folder + "/memory.usage_in_bytes"),
               ReadField(folder + "/memory.stat", "total_inactive_file"),
               &info);
  }
  return info;
}

int NumUsableCpus(const std::string& root) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  int count = 1;
  if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0) {
    count = std::max(1, CPU_COUNT(&cpus));
  }
  const auto apply = [&count](int64_t quota, int64_t period) {
    if (quota <= 0 || period <= 0) return;
    count = std::max<int64_t>(
        1, std::min<int64_t>(count, (quota + period - 1) / period));
  };
  for (const std::string& folder : GroupFolders(root, "")) {
    std::ifstream file(folder + "/cpu.max");  // "quota period" or "max period"
    int64_t quota = 0, period = 0;
    if (file >> quota >> period) apply(quota, period);
  }
  for (const std::string& folder : GroupFolders(root, "cpu")) {
    apply(ReadNumber(folder + "/cpu.cfs_quota_us").value_or(0),
          ReadNumber(folder + "/cpu.cfs_period_us").value_or(0));
  }
  return count;
}

}  // namespace quire
