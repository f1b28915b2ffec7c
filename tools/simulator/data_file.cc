// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/data_file.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

constexpr char kPresets[] = "tools/simulator/presets";

}  // namespace

std::string DataFile(const std::string& name) {
  std::error_code error;
  std::vector<fs::path> roots;
  if (const char* tests = std::getenv("TEST_SRCDIR")) {
    roots.push_back(fs::path(tests) / "quire");
  }
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  roots.push_back(fs::path(self.string() + ".runfiles") / "quire");
  for (const fs::path& root : roots) {
    if (fs::exists(root / name, error)) return (root / name).string();
  }
  return name;
}

std::string PresetFile(const std::string& preset) {
  if (preset.find('/') != std::string::npos || preset.ends_with(".json")) {
    return preset;
  }
  return DataFile(std::string(kPresets) + "/" + preset + ".json");
}

std::string WorkloadFile(const std::string& workload) {
  if (workload.find('/') != std::string::npos || workload.ends_with(".jsonl")) {
    return workload;
  }
  return DataFile("tools/workloads/" + workload + "_paper.jsonl");
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  std::error_code error;
  const std::string any = DataFile(std::string(kPresets));
  for (const auto& entry : fs::directory_iterator(any, error)) {
    if (entry.path().extension() == ".json") {
      names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status OfFlag(absl::string_view flag, const absl::Status& status) {
  if (!absl::IsNotFound(status)) return status;
  return absl::InvalidArgumentError(absl::StrCat(
      "--", flag, ": ", status.message(), "; name a file or one of ",
      flag == "workload" ? "sharegpt, alpaca"
                         : absl::StrJoin(PresetNames(), ", ")));
}

}  // namespace quire
