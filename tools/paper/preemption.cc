// SPDX-License-Identifier: Apache-2.0
//
// Figure 19: swapping against recomputing, by block size. Each block that moves
// costs CostModel::swap_block_s beside its bytes: what the paper's
// implementation pays for copies of one layer's keys or values at a time.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/paper/experiment.h"
#include "tools/paper/figures.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

constexpr int kBlockSizes[] = {1, 2, 4, 8, 16, 32, 64, 128, 256};
constexpr int kNumSizes = std::size(kBlockSizes);
constexpr double kRate = 1.9;  // ShareGPT; near the knee, so that many go

}  // namespace

absl::StatusOr<FigureOutput> RunPreemption(const FigureOptions& options) {
  QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                         ReadLengths(WorkloadFile("sharegpt")));
  constexpr PreemptionMode kModes[] = {PreemptionMode::kRecompute,
                                       PreemptionMode::kSwap};
  constexpr const char* kLabels[] = {"recompute", "swap"};
  std::vector<double> latencies(2 * kNumSizes);
  QUIRE_RETURN_IF_ERROR(
      ForEach(2 * kNumSizes, options.num_threads, [&](int idx) {
        QUIRE_ASSIGN_OR_RETURN(
            Experiment experiment,
            MakeExperiment("paged", "a100_40g_opt13b", {.lengths = lengths}));
        experiment.engine.block_size = kBlockSizes[idx % kNumSizes];
        experiment.engine.preemption_mode = kModes[idx / kNumSizes];
        QUIRE_ASSIGN_OR_RETURN(
            const SimulationResult result,
            RunAt(experiment, kRate, options.quick ? 1200 : 3600, false));
        latencies[idx] = result.normalized_latency.mean;
        return absl::OkStatus();
      }));
  FigureOutput output;
  Plot plot = {.name = "figure_19",
               .title = "OPT-13B, swap or recompute, simulated",
               .x_label = "tokens of a block",
               .y_label = "normalized latency, s/token",
               .max_y = 1,
               .log_x = true,
               .series = {}};
  for (int mode = 0; mode < 2; ++mode) {
    PlotSeries series = {.label = kLabels[mode], .points = {}};
    for (int size = 0; size < kNumSizes; ++size) {
      series.points.push_back(
          {kBlockSizes[size], latencies[mode * kNumSizes + size]});
    }
    plot.series.push_back(series);
  }
  for (int size = 0; size < kNumSizes; ++size) {
    output.rows.push_back(
        {.figure = "19",
         .what = absl::StrCat("blocks of ", kBlockSizes[size],
                              ", swap latency over recompute"),
         .ours = latencies[kNumSizes + size] / latencies[size],
         .unit = Unit::kRatio,
         .note = size == 0   ? "paper: swap much worse at small blocks"
                 : size == 4 ? "paper: equal from 16 to 64"
                             : ""});
  }
  output.plots.push_back(plot);
  return output;
}

}  // namespace quire
