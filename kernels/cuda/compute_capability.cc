// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/compute_capability.h"

#include "absl/strings/str_cat.h"

namespace quire {

absl::Status CheckComputeCapability(const std::string& name, int major,
                                    int minor) {
  // sm_80 runs on what has the same major number; sm_90a on nothing else.
  if (major == 8 || (major == 9 && minor == 0)) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(name, " has compute capability ", major, ".", minor,
                   "; there are kernels for 8.0 to 8.9 and for 9.0"));
}

}  // namespace quire
