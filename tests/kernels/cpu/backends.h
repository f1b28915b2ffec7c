// SPDX-License-Identifier: Apache-2.0
//
// CPU backends as tests want them.
#ifndef TESTS_KERNELS_CPU_BACKENDS_H_
#define TESTS_KERNELS_CPU_BACKENDS_H_

#include <memory>
#include <string>
#include <utility>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"

namespace quire {

inline std::unique_ptr<Backend> MakeCpuBackend(
    DType dtype, int num_threads = 2, CpuGemmKind gemm = CpuGemmKind::kAuto) {
  auto backend = CpuBackend::Create(
      {.dtype = dtype, .num_threads = num_threads, .gemm = gemm});
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

// Tests of an operation run once per model dtype.
class PerDtypeTest : public testing::TestWithParam<DType> {
 protected:
  std::unique_ptr<Backend> backend_ = MakeCpuBackend(GetParam());
};

inline std::string DtypeName(const testing::TestParamInfo<DType>& info) {
  return Name(info.param);
}

}  // namespace quire

#endif  // TESTS_KERNELS_CPU_BACKENDS_H_
