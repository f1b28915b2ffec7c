// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/lost_device.h"

#include <string>

#include "absl/strings/cord.h"

namespace quire {
namespace {

constexpr char kMark[] = "quire/lost_device";

}  // namespace

absl::Status MarkIfLost(absl::Status status, Backend* device) {
  if (status.ok()) return status;
  const absl::Status cause = device->Synchronize();
  if (!cause.ok()) status.SetPayload(kMark, absl::Cord(cause.message()));
  return status;
}

absl::Status LostDevice(const absl::Status& status) {
  const auto cause = status.GetPayload(kMark);
  if (!cause.has_value()) return absl::OkStatus();
  return absl::InternalError(std::string(*cause));
}

}  // namespace quire
