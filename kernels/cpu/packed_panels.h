// SPDX-License-Identifier: Apache-2.0
//
// How the packed product keeps a weight: panels of kPanelLanes output features,
// each [num_steps][kPanelLanes] groups, so that multiplying reads memory in one
// straight line. A group is 32 bits: one float, or two bfloat16 of consecutive
// k. Missing features, and those k that bfloat16 lacks to a multiple of 32 (a
// row of an AMX tile), are zeros.
#ifndef KERNELS_CPU_PACKED_PANELS_H_
#define KERNELS_CPU_PACKED_PANELS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/dtype.h"
#include "kernels/gemm.h"

namespace quire {

constexpr int64_t kPanelLanes = 32;

// Groups along k.
constexpr int64_t NumSteps(int64_t k, DType dtype) {
  return dtype == DType::kF32 ? k : (k + 31) / 32 * 16;
}

constexpr int64_t NumPanels(int64_t n) {
  return (n + kPanelLanes - 1) / kPanelLanes;
}

// Writes NumPanels(n) panels of the stacked rows, converted to `dtype`. Each
// thread first touches the pages that it will later read.
// REQUIRES: all of `k` columns, together n rows.
void PackPanels(absl::Span<const HostMatrix> stacked, int64_t n, int64_t k,
                DType dtype, const ThreadTeam& team, uint32_t* panels);

// Copies `count` elements of `from`, starting at element `first`, as `dtype`.
void ConvertElements(const HostMatrix& from, int64_t first, int64_t count,
                     DType dtype, void* to);

}  // namespace quire

#endif  // KERNELS_CPU_PACKED_PANELS_H_
