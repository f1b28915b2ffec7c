// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/binaries.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace quire {

namespace fs = std::filesystem;

absl::StatusOr<std::string> FindBinary(const std::string& launcher,
                                       const std::string& package,
                                       const std::string& name) {
  const fs::path folder = fs::path(launcher).parent_path();
  // The launcher is tools/quire/quire in a build tree.
  const fs::path tree = folder.parent_path().parent_path();
  for (const fs::path& candidate :
       {folder / name,
        fs::path(launcher + ".runfiles") / "quire" / package / name,
        tree / package / name}) {
    if (access(candidate.c_str(), X_OK) == 0 && !fs::is_directory(candidate)) {
      return candidate.string();
    }
  }
  return absl::NotFoundError(absl::StrCat(
      name, " is neither beside ", launcher, " nor in ",
      (tree / package).string(), "; build it with `bazel build --config=opt //",
      package, ":", name, "` or name it with a flag (see --help)"));
}

absl::StatusOr<std::string> FindDemoModel(const std::string& launcher) {
  const fs::path model = "tools/demo_model/model";
  std::error_code ignored;
  for (const fs::path& candidate :
       {fs::current_path(ignored) / model,
        fs::path(launcher + ".runfiles") / "quire" / model}) {
    // Runfiles are a folder of links, which a model folder may not hold: what
    // is meant is the folder that they lead to.
    const fs::path config = fs::canonical(candidate / "config.json", ignored);
    if (!config.empty()) return config.parent_path().string();
  }
  return absl::NotFoundError(
      "no model given; name a Hugging Face folder with --model=DIR");
}

std::string OwnPath() {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).string();
}

}  // namespace quire
