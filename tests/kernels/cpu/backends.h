// SPDX-License-Identifier: Apache-2.0
//
// CPU backends as tests want them.
#ifndef TESTS_KERNELS_CPU_BACKENDS_H_
#define TESTS_KERNELS_CPU_BACKENDS_H_

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "glog/logging.h"
#include "hwy/targets.h"
#include "kernels/cpu/cpu_backend.h"

namespace quire {

// Leaves out instruction sets above the one that the environment names (the
// BUILD file runs tests so), as on older machines.
inline void LimitInstructionSets() {
  const char* limit = std::getenv("LIMIT_INSTRUCTION_SET");
  if (limit == nullptr) return;
  const std::string name = limit;
  CHECK(name == "avx2" || name == "ssse3") << name;
  hwy::DisableTargets(name == "avx2" ? HWY_AVX3 : HWY_AVX3 | HWY_AVX2);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

inline std::unique_ptr<Backend> MakeCpuBackend(
    DType dtype, int num_threads = 2, CpuGemmKind gemm = CpuGemmKind::kAuto) {
  LimitInstructionSets();
  auto backend = CpuBackend::Create(
      {.dtype = dtype, .num_threads = num_threads, .gemm = gemm});
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

}  // namespace quire

#endif  // TESTS_KERNELS_CPU_BACKENDS_H_
