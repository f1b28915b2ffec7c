// SPDX-License-Identifier: Apache-2.0
//
// The backend that a suite of operations runs on. The suites are written once;
// which backend they meet is decided by the library that their test links:
// //tests/kernels/cpu:test_backend or //tests/kernels/cuda:test_backend.
#ifndef TESTS_KERNELS_TEST_BACKEND_H_
#define TESTS_KERNELS_TEST_BACKEND_H_

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "kernels/backend.h"

namespace quire {

// Its operations take host memory, whatever the device, and are done when they
// return. `num_threads` means nothing on a GPU.
std::unique_ptr<Backend> MakeTestBackend(DType dtype, int num_threads = 2);

// Tests of an operation run once per model dtype.
class PerDtypeTest : public testing::TestWithParam<DType> {
 protected:
  std::unique_ptr<Backend> backend_ = MakeTestBackend(GetParam());
};

inline std::string DtypeName(const testing::TestParamInfo<DType>& info) {
  return Name(info.param);
}

}  // namespace quire

#endif  // TESTS_KERNELS_TEST_BACKEND_H_
