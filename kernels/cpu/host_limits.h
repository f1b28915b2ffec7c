// SPDX-License-Identifier: Apache-2.0
//
// What this process may use of the machine: the smaller of what the machine has
// and what its control groups (versions 1 and 2) allow.
#ifndef KERNELS_CPU_HOST_LIMITS_H_
#define KERNELS_CPU_HOST_LIMITS_H_

#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace quire {

// `root` is "" for the real /proc and /sys; tests lay out a small one.
// Unavailable when /proc/meminfo cannot be read.
absl::StatusOr<MemoryInfo> ReadHostMemory(const std::string& root = "");

// Processors that the process may run on, at least 1: its affinity mask, cut by
// the control group's quota (a part of a processor counts as one).
int NumUsableCpus(const std::string& root = "");

}  // namespace quire

#endif  // KERNELS_CPU_HOST_LIMITS_H_
