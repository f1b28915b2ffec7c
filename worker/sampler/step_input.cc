// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/step_input.h"

#include <algorithm>

#include "common/status_macros.h"

namespace quire {
namespace {

bool Holds(const std::unique_ptr<DeviceBuffer>& buffer, int64_t bytes) {
  return buffer != nullptr && buffer->bytes() >= bytes;
}

absl::Status LetGo(Backend* backend, std::unique_ptr<DeviceBuffer>* buffer) {
  // What was enqueued may use it still.
  QUIRE_RETURN_IF_ERROR(backend->Synchronize());
  buffer->reset();
  return absl::OkStatus();
}

}  // namespace

absl::Status GrowDevice(Backend* backend, int64_t bytes,
                        std::unique_ptr<DeviceBuffer>* buffer) {
  if (Holds(*buffer, bytes)) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(LetGo(backend, buffer));
  QUIRE_ASSIGN_OR_RETURN(*buffer, backend->Allocate(bytes + bytes / 2));
  return absl::OkStatus();
}

absl::Status GrowHost(Backend* backend, int64_t bytes,
                      std::unique_ptr<DeviceBuffer>* buffer) {
  if (Holds(*buffer, bytes)) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(LetGo(backend, buffer));
  QUIRE_ASSIGN_OR_RETURN(*buffer, backend->AllocateHost(bytes + bytes / 2));
  return absl::OkStatus();
}

absl::Status StepInput::Reserve(int64_t bytes) {
  for (auto& host : host_) {
    QUIRE_RETURN_IF_ERROR(GrowHost(backend_, bytes, &host));
  }
  return GrowDevice(backend_, bytes, &device_);
}

absl::Status StepInput::Send(int32_t flight) {
  const int64_t bytes = static_cast<int64_t>(bytes_.size());
  QUIRE_RETURN_IF_ERROR(GrowHost(backend_, bytes, &host_[flight]));
  QUIRE_RETURN_IF_ERROR(GrowDevice(backend_, bytes, &device_));
  std::copy(bytes_.begin(), bytes_.end(), host_[flight]->as<char>());
  return backend_->CopyToDevice(host_[flight]->data(), device_->data(), bytes);
}

}  // namespace quire
