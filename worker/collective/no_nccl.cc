// SPDX-License-Identifier: Apache-2.0
//
// What builds without --config=cuda have.
#include "worker/collective/nccl.h"

namespace quire {

void PrepareNcclEnvironment(const std::string&) {}

absl::StatusOr<std::unique_ptr<Collective>> ConnectNccl(
    const NcclOptions&, KeyBoard*, std::unique_ptr<Collective>) {
  return absl::UnimplementedError(
      "this build has no NCCL; build with --config=cuda");
}

}  // namespace quire
