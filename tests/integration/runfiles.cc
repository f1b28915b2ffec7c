// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/runfiles.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {

std::string Runfile(const std::string& path) {
  const char* root = std::getenv("TEST_SRCDIR");
  const char* workspace = std::getenv("TEST_WORKSPACE");
  if (root == nullptr) return path;
  // Who runs a bundle's tests by hand names the data alone.
  return absl::StrCat(root, "/", workspace == nullptr ? "quire" : workspace,
                      "/", path);
}

std::string ModelFolder(const std::string& path) {
  char* resolved =
      realpath(absl::StrCat(Runfile(path), "/config.json").c_str(), nullptr);
  CHECK(resolved != nullptr) << path << " is not among the test's data";
  const std::string file = resolved;
  free(resolved);
  return file.substr(0, file.rfind('/'));
}

std::string TempPath(const std::string& name) {
  static std::atomic<int> next{0};
  const char* root = std::getenv("TEST_TMPDIR");
  return absl::StrCat(root == nullptr ? "/tmp" : root, "/", getpid(), ".",
                      next.fetch_add(1), ".", name);
}

}  // namespace quire
