// SPDX-License-Identifier: Apache-2.0
//
// A copy of host data in device memory.
#ifndef TESTS_KERNELS_CUDA_DEVICE_ARRAY_H_
#define TESTS_KERNELS_CUDA_DEVICE_ARRAY_H_

#include <cstdint>
#include <vector>

#include "cuda_runtime_api.h"
#include "gtest/gtest.h"
#include "tests/kernels/tensor.h"

namespace quire {

class DeviceArray {
 public:
  DeviceArray(const void* host, int64_t bytes) : bytes_(bytes) {
    EXPECT_EQ(cudaMalloc(&data_, bytes), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, host, bytes, cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  template <typename T>
  explicit DeviceArray(const std::vector<T>& host)
      : DeviceArray(host.data(), host.size() * sizeof(T)) {}
  explicit DeviceArray(const Tensor& host)
      : DeviceArray(host.data(), host.size() * SizeOf(host.dtype())) {}
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  const int64_t bytes_;
};

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_DEVICE_ARRAY_H_
