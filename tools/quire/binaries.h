// SPDX-License-Identifier: Apache-2.0
//
// Where the launcher finds the programs that it starts.
#ifndef TOOLS_QUIRE_BINARIES_H_
#define TOOLS_QUIRE_BINARIES_H_

#include <string>

#include "absl/status/statusor.h"

namespace quire {

// The program `name` of the Bazel package `package`: beside `launcher` (an
// installation), in its runfiles, or in the build tree that `launcher` is in.
// NotFound says where was looked and how to build it.
absl::StatusOr<std::string> FindBinary(const std::string& launcher,
                                       const std::string& package,
                                       const std::string& name);

// The demo model's folder, seen from `launcher` or the current folder.
// NotFound asks for --model.
absl::StatusOr<std::string> FindDemoModel(const std::string& launcher);

// The running program's own file.
std::string OwnPath();

}  // namespace quire

#endif  // TOOLS_QUIRE_BINARIES_H_
