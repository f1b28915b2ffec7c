// SPDX-License-Identifier: Apache-2.0
//
// Files that come with the tools: presets and workloads.
#ifndef TOOLS_SIMULATOR_DATA_FILE_H_
#define TOOLS_SIMULATOR_DATA_FILE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace quire {

// The path of `name`, which begins at the repository's root: beside the
// program where Bazel puts its data, else below the working directory.
std::string DataFile(const std::string& name);

// The path of a cost model: `preset` itself if it names a file, else that of
// the preset of this name.
std::string PresetFile(const std::string& preset);

// The path of a file of lengths: `workload` itself if it is one, else
// "sharegpt" or "alpaca": the file of this name in tools/workloads.
std::string WorkloadFile(const std::string& workload);

// Sorted.
std::vector<std::string> PresetNames();

// Of a file that a flag names, wrong usage if it is not there; as it is
// otherwise.
absl::Status OfFlag(absl::string_view flag, const absl::Status& status);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_DATA_FILE_H_
