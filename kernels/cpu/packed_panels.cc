// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/packed_panels.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/bf16.h"

namespace quire {
namespace {

template <typename From, typename To>
void Convert(const void* from, int64_t first, int64_t count, void* to) {
  const From* in = static_cast<const From*>(from) + first;
  To* out = static_cast<To*>(to);
  for (int64_t i = 0; i < count; ++i) out[i] = FromFloat<To>(ToFloat(in[i]));
}

// Where row `row` of the stack is: its matrix, and its first element there.
struct RowAt {
  const HostMatrix* matrix;
  int64_t first;
};

RowAt FindRow(absl::Span<const HostMatrix> stacked, int64_t row) {
  for (const HostMatrix& matrix : stacked) {
    if (row < matrix.rows) return {&matrix, row * matrix.row_stride};
    row -= matrix.rows;
  }
  return {nullptr, 0};
}

// One panel of features [feature, feature + kPanelLanes).
void PackPanel(absl::Span<const HostMatrix> stacked, int64_t feature, int64_t k,
               DType dtype, uint32_t* panel) {
  constexpr int64_t kBlock = 64;  // groups: a block of all lanes stays in L1
  const int64_t num_steps = NumSteps(k, dtype);
  const int64_t per_group = dtype == DType::kF32 ? 1 : 2;
  RowAt rows[kPanelLanes];
  for (int64_t lane = 0; lane < kPanelLanes; ++lane) {
    rows[lane] = FindRow(stacked, feature + lane);
  }
  for (int64_t step = 0; step < num_steps; step += kBlock) {
    const int64_t steps = std::min(kBlock, num_steps - step);
    const int64_t first_k = step * per_group;
    const int64_t count =
        std::clamp<int64_t>(k - first_k, 0, steps * per_group);
    for (int64_t lane = 0; lane < kPanelLanes; ++lane) {
      uint32_t groups[kBlock] = {};
      if (rows[lane].matrix != nullptr) {
        ConvertElements(*rows[lane].matrix, rows[lane].first + first_k, count,
                        dtype, groups);
      }
      uint32_t* to = panel + step * kPanelLanes + lane;
      for (int64_t s = 0; s < steps; ++s) to[s * kPanelLanes] = groups[s];
    }
  }
}

}  // namespace

void ConvertElements(const HostMatrix& from, int64_t first, int64_t count,
                     DType dtype, void* to) {
  if (from.dtype == dtype) {
    const int64_t size = SizeOf(dtype);
    std::memcpy(to, static_cast<const char*>(from.data) + first * size,
                count * size);
  } else if (dtype == DType::kF32) {
    Convert<Bf16, float>(from.data, first, count, to);
  } else {
    Convert<float, Bf16>(from.data, first, count, to);
  }
}

void PackPanels(absl::Span<const HostMatrix> stacked, int64_t n, int64_t k,
                DType dtype, const ThreadTeam& team, uint32_t* panels) {
  const int64_t panel_groups = NumSteps(k, dtype) * kPanelLanes;
  team.For(NumPanels(n), /*grain=*/1, [&](int, int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      PackPanel(stacked, panel * kPanelLanes, k, dtype,
                panels + panel * panel_groups);
    }
  });
}

}  // namespace quire
