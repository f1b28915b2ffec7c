// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/solo.h"

#include <cstring>

namespace quire {

absl::Status SoloCollective::AllGather(const void* in, void* out,
                                       int64_t bytes) {
  if (in != out) std::memcpy(out, in, bytes);
  return absl::OkStatus();
}

}  // namespace quire
