// SPDX-License-Identifier: Apache-2.0
#ifndef TESTS_KERNELS_CUDA_MIRROR_H_
#define TESTS_KERNELS_CUDA_MIRROR_H_

#include <cstdint>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "common/status_macros.h"
#include "kernels/backend.h"

namespace quire {

// The operands of one operation. Each travels to a device buffer of exactly its
// size; what the operation may write travels back. Operands that begin at one
// address are one.
class Mirror {
 public:
  // `device` is borrowed.
  explicit Mirror(Backend* device) : device_(device) {}

  // The device's copy of host memory that the operation reads.
  template <typename T>
  const T* In(const T* host, int64_t bytes) {
    return static_cast<const T*>(Find(host, bytes).buffer->data());
  }
  // ... that it may write.
  template <typename T>
  T* Out(T* host, int64_t bytes) {
    Operand& operand = Find(host, bytes);
    operand.writable = host;
    return static_cast<T*>(operand.buffer->data());
  }
  // In() of null is null.
  template <typename T>
  const T* InIf(const T* host, int64_t bytes) {
    return host == nullptr ? nullptr : In(host, bytes);
  }

  // Waits for what was enqueued and brings results home.
  absl::Status Finish(const absl::Status& enqueued) {
    QUIRE_RETURN_IF_ERROR(enqueued);
    QUIRE_RETURN_IF_ERROR(status_);
    QUIRE_RETURN_IF_ERROR(device_->Synchronize());
    for (auto& [host, operand] : operands_) {
      if (operand.writable == nullptr) continue;
      QUIRE_RETURN_IF_ERROR(device_->CopyToHost(
          operand.buffer->data(), operand.writable, operand.buffer->bytes()));
    }
    return device_->Synchronize();
  }

 private:
  struct Operand {
    std::unique_ptr<DeviceBuffer> buffer;
    void* writable = nullptr;
  };

  Operand& Find(const void* host, int64_t bytes) {
    Operand& operand = operands_[host];
    if (operand.buffer != nullptr) return operand;
    operand.buffer = *device_->Allocate(bytes);
    if (bytes > 0) {
      status_.Update(
          device_->CopyToDevice(host, operand.buffer->data(), bytes));
    }
    return operand;
  }

  Backend* device_;
  std::map<const void*, Operand> operands_;
  absl::Status status_;
};

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_MIRROR_H_
