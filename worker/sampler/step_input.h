// SPDX-License-Identifier: Apache-2.0
//
// Arrays that a step sends to the device together.
#ifndef WORKER_SAMPLER_STEP_INPUT_H_
#define WORKER_SAMPLER_STEP_INPUT_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace quire {

// Makes a buffer of device memory, or of memory that both reach
// (Backend::AllocateHost), hold so many bytes or more. If it did not, waits for
// all that is enqueued, and what it held is lost.
absl::Status GrowDevice(Backend* backend, int64_t bytes,
                        std::unique_ptr<DeviceBuffer>* buffer);
absl::Status GrowHost(Backend* backend, int64_t bytes,
                      std::unique_ptr<DeviceBuffer>* buffer);

// Thread-compatible; the executor thread is the sole caller. Buffers grow to
// the largest step.
class StepInput {
 public:
  // Steps whose arrays may be on their way at once.
  static constexpr int32_t kMaxFlights = 2;

  // `backend` must live longer.
  explicit StepInput(Backend* backend) : backend_(backend) {}

  // Room for so many bytes, each array rounded up to 16.
  absl::Status Reserve(int64_t bytes);

  // Begins another step, of no arrays.
  void Clear() { bytes_.clear(); }

  // Yields what At() takes.
  template <typename T>
  int64_t Add(const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    const size_t begin = bytes_.size();
    const size_t bytes = values.size() * sizeof(T);
    bytes_.resize((begin + bytes + 15) / 16 * 16);
    if (bytes > 0) std::memcpy(bytes_.data() + begin, values.data(), bytes);
    return static_cast<int64_t>(begin);
  }

  // Enqueues that the device has the step's arrays.
  // REQUIRES: the flight's last step has run.
  absl::Status Send(int32_t flight);

  // Of an array that is sent, until the next is.
  template <typename T>
  const T* At(int64_t begin) const {
    return reinterpret_cast<const T*>(device_->as<char>() + begin);
  }

 private:
  Backend* const backend_;
  std::vector<char> bytes_;
  std::unique_ptr<DeviceBuffer> host_[kMaxFlights];
  std::unique_ptr<DeviceBuffer> device_;
};

}  // namespace quire

#endif  // WORKER_SAMPLER_STEP_INPUT_H_
