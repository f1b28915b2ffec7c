// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/packed_gemm.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/status_macros.h"
#include "kernels/cpu/host_memory.h"

namespace quire {
namespace {

// Groups of k in a block: 128 KiB of a panel, which the second-level cache
// keeps while the tiles of x pass. Measured on Zen 4, one core, m = 32 and 512:
// 0.90 of the peak; 16 KiB blocks, which fit the first level, reach 0.85.
constexpr int64_t kBlockSteps = 1024;
// Rows whose partial sums a thread keeps: 48 KiB.
constexpr int64_t kPassRows = 384;
// How far ahead of the product the panel is fetched: by the first tile from
// memory (hardware prefetchers stop at the end of a page; 8 KiB beat 4 and 16),
// by those after it from the second-level cache.
constexpr int64_t kMemoryAheadBytes = 8192;
constexpr int64_t kCacheAheadBytes = 1024;
// Bytes of a weight in one piece of work.
constexpr int64_t kGrainBytes = 1 << 20;

class PanelWeight final : public PackedWeight {
 public:
  PanelWeight(int64_t n, int64_t k, HostMemory memory)
      : PackedWeight(n, k, memory.bytes()), memory_(std::move(memory)) {}

  uint32_t* panels() const { return static_cast<uint32_t*>(memory_.data()); }

 private:
  HostMemory memory_;
};

// Rows of x cut into tiles of nearly equal height.
struct RowTiles {
  RowTiles(int64_t rows, int64_t max_rows)
      : rows(rows), count((rows + max_rows - 1) / max_rows) {}
  int64_t Begin(int64_t tile) const { return rows * tile / count; }

  int64_t rows;
  int64_t count;
};

// Arranges rows [begin, end) of x as groups, [num_steps, rows], or by rows
// [rows, num_steps]. k beyond the last become zeros.
void PackRows(const GemmParams& params, DType dtype, bool by_rows,
              int64_t begin, int64_t end, uint32_t* to) {
  constexpr int64_t kStepsAtOnce = 128;  // what is written stays in L1
  const int64_t size = SizeOf(dtype);
  const int64_t num_steps = NumSteps(params.weight->k(), dtype);
  const int64_t row_bytes = params.weight->k() * size;
  const int64_t rows = end - begin;
  const int64_t row_stride = by_rows ? num_steps : 1;
  const int64_t step_stride = by_rows ? 1 : rows;
  for (int64_t first = 0; first < num_steps; first += kStepsAtOnce) {
    const int64_t steps = std::min(kStepsAtOnce, num_steps - first);
    const int64_t bytes =
        std::clamp<int64_t>(row_bytes - first * 4, 0, steps * 4);
    for (int64_t r = 0; r < rows; ++r) {
      const char* x = static_cast<const char*>(params.x) +
                      (begin + r) * params.x_stride * size + first * 4;
      uint32_t groups[kStepsAtOnce];
      std::memcpy(groups, x, bytes);
      std::memset(reinterpret_cast<char*>(groups) + bytes, 0,
                  steps * 4 - bytes);
      uint32_t* out = to + r * row_stride + first * step_stride;
      for (int64_t step = 0; step < steps; ++step) {
        out[step * step_stride] = groups[step];
      }
    }
  }
}

}  // namespace

PackedGemm::PackedGemm(DType dtype, const ThreadTeam* team)
    : dtype_(dtype),
      team_(team),
      kernel_(ChooseGemmKernel(dtype)),
      sums_(team->num_threads()) {}

absl::StatusOr<std::unique_ptr<PackedWeight>> PackedGemm::Pack(
    absl::Span<const HostMatrix> stacked) {
  int64_t n = 0;
  for (const HostMatrix& matrix : stacked) n += matrix.rows;
  const int64_t k = stacked.front().cols;
  const int64_t groups = NumPanels(n) * NumSteps(k, dtype_) * kPanelLanes;
  QUIRE_ASSIGN_OR_RETURN(HostMemory memory,
                         HostMemory::Allocate(groups * sizeof(uint32_t)));
  auto weight = std::make_unique<PanelWeight>(n, k, std::move(memory));
  PackPanels(stacked, n, k, dtype_, *team_, weight->panels());
  return weight;
}

absl::Status PackedGemm::Run(const GemmParams& params) {
  const int64_t k = params.weight->k();
  const int64_t num_steps = NumSteps(k, dtype_);
  const int64_t num_panels = NumPanels(params.weight->n());
  if (params.m == 0 || num_panels == 0) return absl::OkStatus();
  // Rows that a kernel can read where they are, are left there.
  const bool whole_steps = num_steps * 4 == k * SizeOf(dtype_);
  PackedRows x = {static_cast<const uint32_t*>(params.x),
                  params.x_stride * SizeOf(dtype_) / 4};
  const bool in_place =
      whole_steps && reinterpret_cast<uintptr_t>(params.x) % 4 == 0 &&
      (params.m == 1 ||
       (kernel_.by_rows && params.x_stride * SizeOf(dtype_) % 4 == 0));
  if (!in_place) {
    uint32_t* packed = x_.Get<uint32_t>(params.m * num_steps);
    const RowTiles tiles(params.m, kernel_.max_rows);
    const int64_t grain =
        std::max<int64_t>(1, (64 << 10) / (num_steps * kernel_.max_rows + 1));
    team_->For(tiles.count, grain, [&](int, int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        PackRows(params, dtype_, kernel_.by_rows, tiles.Begin(tile),
                 tiles.Begin(tile + 1), packed + tiles.Begin(tile) * num_steps);
      }
    });
    x = {packed, num_steps};
  }
  const int64_t panel_bytes = num_steps * kPanelLanes * 4;
  const int64_t fair = num_panels / (4 * team_->num_threads());
  const int64_t grain =
      std::max<int64_t>(1, std::min(fair, kGrainBytes / (panel_bytes + 1)));
  team_->For(num_panels, grain, [&](int thread, int64_t begin, int64_t end) {
    RunPanels(params, x, thread, begin, end);
  });
  return absl::OkStatus();
}

void PackedGemm::RunPanels(const GemmParams& params, const PackedRows& x,
                           int thread, int64_t begin, int64_t end) {
  const auto& weight = static_cast<const PanelWeight&>(*params.weight);
  const int64_t num_steps = NumSteps(weight.k(), dtype_);
  const int64_t n = weight.n();
  const RowTiles tiles(params.m, kernel_.max_rows);
  const int64_t pass_tiles = kPassRows / kernel_.max_rows;
  float* sums = sums_.Get<float>(
      thread, std::min<int64_t>(params.m, kPassRows) * kPanelLanes);
  const int64_t bias_size = SizeOf(dtype_);
  const int64_t y_size = SizeOf(params.y_dtype);
  for (int64_t pass = 0; pass < tiles.count; pass += pass_tiles) {
    const int64_t pass_end = std::min(pass + pass_tiles, tiles.count);
    const int64_t first_row = tiles.Begin(pass);
    const int64_t block =
        pass_end - pass == 1 ? std::max<int64_t>(1, num_steps) : kBlockSteps;
    for (int64_t panel = begin; panel < end; ++panel) {
      const uint32_t* groups =
          weight.panels() + panel * num_steps * kPanelLanes;
      int64_t step = 0;
      do {  // once even if k is 0: the sums are zeros then
        for (int64_t t = pass; t < pass_end; ++t) {
          const int64_t row = tiles.Begin(t);
          GemmTile tile;
          tile.rows = tiles.Begin(t + 1) - row;
          tile.num_steps = std::min(block, num_steps - step);
          tile.a = x.groups + row * x.stride +
                   (kernel_.by_rows ? step : step * tile.rows);
          tile.a_stride = x.stride;
          tile.panel = groups + step * kPanelLanes;
          tile.sums = sums + (row - first_row) * kPanelLanes;
          tile.prefetch = reinterpret_cast<const char*>(tile.panel) +
                          (t == pass ? kMemoryAheadBytes : kCacheAheadBytes);
          tile.resume = step > 0;
          kernel_.run(tile);
        }
        step += block;
      } while (step < num_steps);
      const int64_t feature = panel * kPanelLanes;
      GemmStore store;
      store.bias_dtype = dtype_;
      store.bias =
          params.bias == nullptr
              ? nullptr
              : static_cast<const char*>(params.bias) + feature * bias_size;
      store.y_dtype = params.y_dtype;
      store.count = std::min(kPanelLanes, n - feature);
      for (int64_t row = first_row; row < tiles.Begin(pass_end); ++row) {
        store.sums = sums + (row - first_row) * kPanelLanes;
        store.y = static_cast<char*>(params.y) +
                  (row * params.y_stride + feature) * y_size;
        StoreGemmRow(store);
      }
    }
  }
}

}  // namespace quire
