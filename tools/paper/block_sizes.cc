// SPDX-License-Identifier: Apache-2.0
//
// Figure 18b: latency by block size at one rate. Small blocks are read slower
// (CostModel::span_tokens), large ones waste memory.
#include <algorithm>
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

struct Panel {
  const char* workload;
  const char* label;
  double rate;  // near the knee at blocks of 16
  double trace_s;
  double quick_trace_s;
  const char* paper;
};
constexpr Panel kPanels[] = {
    {"sharegpt", "ShareGPT", 1.9, 3600, 1200, "paper: best from 16 to 128"},
    {"alpaca", "Alpaca", 29, 1200, 200, "paper: best from 16 to 32"}};

}  // namespace

absl::StatusOr<FigureOutput> RunBlockSizes(const FigureOptions& options) {
  constexpr int kNum = kNumSizes * std::size(kPanels);
  std::vector<double> latencies(kNum);
  QUIRE_RETURN_IF_ERROR(ForEach(kNum, options.num_threads, [&](int idx) {
    const Panel& panel = kPanels[idx / kNumSizes];
    QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                           ReadLengths(WorkloadFile(panel.workload)));
    QUIRE_ASSIGN_OR_RETURN(
        Experiment experiment,
        MakeExperiment(options.testbed, "paged", "a100_40g_opt13b",
                       {.lengths = lengths}));
    experiment.engine.block_size = kBlockSizes[idx % kNumSizes];
    QUIRE_ASSIGN_OR_RETURN(
        const SimulationResult result,
        RunAt(experiment, options.testbed.speed * panel.rate,
              options.TraceSeconds(panel.trace_s, panel.quick_trace_s), false));
    latencies[idx] = result.normalized_latency.mean;
    return absl::OkStatus();
  }));
  FigureOutput output;
  Plot plot = {.name = "figure_18b",
               .title = "OPT-13B, latency by block size, simulated",
               .x_label = "tokens of a block",
               .y_label = "normalized latency, s/token",
               .max_y = 1,
               .log_x = true,
               .series = {}};
  for (size_t idx = 0; idx < std::size(kPanels); ++idx) {
    const double* begin = &latencies[idx * kNumSizes];
    const double best = *std::min_element(begin, begin + kNumSizes);
    PlotSeries series = {.label = kPanels[idx].label, .points = {}};
    for (int size = 0; size < kNumSizes; ++size) {
      series.points.push_back({kBlockSizes[size], begin[size]});
      output.rows.push_back(
          {.figure = "18b",
           .what = absl::StrCat(kPanels[idx].label, ", blocks of ",
                                kBlockSizes[size], ", latency over the best"),
           .ours = begin[size] / best,
           .unit = Unit::kRatio,
           .note = size == 0 ? kPanels[idx].paper : ""});
    }
    plot.series.push_back(series);
  }
  output.plots.push_back(plot);
  return output;
}

}  // namespace quire
