// SPDX-License-Identifier: Apache-2.0
//
// What tests of choices on a GPU share: a backend, and arrays upon it.
#ifndef TESTS_KERNELS_CUDA_CHOICE_FIXTURE_H_
#define TESTS_KERNELS_CUDA_CHOICE_FIXTURE_H_

#include <memory>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"

namespace quire {

// The tests of a suite have one backend.
class ChoiceFixture : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto backend = CreateCudaBackend({});
    CHECK(backend.ok()) << backend.status();
    backend_ = backend->release();
  }
  static void TearDownTestSuite() { delete backend_; }

  // Until Synchronize().
  template <typename T>
  static T* ToDevice(const std::vector<T>& host) {
    buffers_.push_back(*backend_->Allocate(host.size() * sizeof(T)));
    CHECK(backend_
              ->CopyToDevice(host.data(), buffers_.back()->data(),
                             host.size() * sizeof(T))
              .ok());
    return buffers_.back()->as<T>();
  }

  // Enqueues it.
  template <typename T>
  static void ToHost(const T* device, std::vector<T>* host) {
    CHECK(backend_->CopyToHost(device, host->data(), host->size() * sizeof(T))
              .ok());
  }

  // Waits for all that is enqueued; arrays on the device are gone.
  static void Synchronize() {
    const absl::Status ran = backend_->Synchronize();
    CHECK(ran.ok()) << ran;
    buffers_.clear();
  }

  inline static Backend* backend_ = nullptr;

 private:
  inline static std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
};

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_CHOICE_FIXTURE_H_
