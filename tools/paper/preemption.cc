// SPDX-License-Identifier: Apache-2.0
//
// Figure 19: swapping against recomputing, by block size: one sequence taken
// from the device and brought back, and a load near its knee.
//
// Each block that moves costs CostModel::swap_block_s beside its bytes, which
// is an assumption: 80 copies, one of each layer's keys or values, 4 us each,
// as the paper's implementation makes them. Reading small blocks is charged
// like reading large ones here, so that what differs is preemption alone;
// Figure 18b shows the rest.
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
constexpr double kRate = 2.1;  // ShareGPT; near the knee, so that many go
// ShareGPT's mean prompt and half its mean output.
constexpr int32_t kNumTokens = 330;

constexpr char kSystem[] = "paged";
constexpr char kPreset[] = "a100_40g_opt13b";
constexpr PreemptionMode kModes[] = {PreemptionMode::kRecompute,
                                     PreemptionMode::kSwap};
constexpr const char* kLabels[] = {"recompute", "swap"};
constexpr int kNumModes = std::size(kModes);

// Seconds to take a sequence away and to bring it back.
double RoundTrip(const CostModel& cost, PreemptionMode mode,
                 int32_t block_size) {
  if (mode == PreemptionMode::kSwap) {
    const int32_t num_blocks = (kNumTokens + block_size - 1) / block_size;
    return 2 * num_blocks / SwapBlocksPerSecond(cost, block_size);
  }
  return StepSeconds(
      cost,
      {.num_sequences = 1,
       .num_tokens = kNumTokens,
       .num_kv_tokens = kNumTokens,
       .num_attention_pairs = kNumTokens * (kNumTokens + 1) / 2.},
      block_size, /*contiguous=*/false);
}

std::string NoteOf(int block_size) {
  return block_size == 1    ? "paper: swap much worse at small blocks"
         : block_size == 16 ? "paper: equal from 16 to 64"
                            : "";
}

// values: [kNumModes * kNumSizes]
void AddResults(const std::string& what, const std::vector<double>& values,
                Plot plot, FigureOutput* output) {
  for (int mode = 0; mode < kNumModes; ++mode) {
    PlotSeries series = {.label = kLabels[mode], .points = {}};
    for (int size = 0; size < kNumSizes; ++size) {
      series.points.push_back(
          {kBlockSizes[size], values[mode * kNumSizes + size]});
    }
    plot.series.push_back(series);
  }
  output->plots.push_back(plot);
  for (int size = 0; size < kNumSizes; ++size) {
    output->rows.push_back(
        {.figure = "19",
         .what = absl::StrCat("blocks of ", kBlockSizes[size], ", ", what,
                              ", swap over recompute"),
         .ours = values[kNumSizes + size] / values[size],
         .unit = Unit::kRatio,
         .note = NoteOf(kBlockSizes[size])});
  }
}

}  // namespace

absl::StatusOr<FigureOutput> RunPreemption(const FigureOptions& options) {
  QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                         ReadLengths(WorkloadFile("sharegpt")));
  constexpr int kNum = kNumModes * kNumSizes;
  std::vector<double> latencies(kNum);
  std::vector<double> round_trips(kNum);
  QUIRE_RETURN_IF_ERROR(ForEach(kNum, options.num_threads, [&](int idx) {
    QUIRE_ASSIGN_OR_RETURN(Experiment experiment,
                           MakeExperiment(options.testbed, kSystem, kPreset,
                                          {.lengths = lengths}));
    const int block_size = kBlockSizes[idx % kNumSizes];
    const PreemptionMode mode = kModes[idx / kNumSizes];
    experiment.cost.span_tokens = 0;
    experiment.engine.block_size = block_size;
    experiment.engine.preemption_mode = mode;
    round_trips[idx] = RoundTrip(experiment.cost, mode, block_size);
    QUIRE_ASSIGN_OR_RETURN(const SimulationResult result,
                           RunAt(experiment, options.testbed.speed * kRate,
                                 options.TraceSeconds(3600, 1200), false));
    latencies[idx] = result.normalized_latency.mean;
    return absl::OkStatus();
  }));
  FigureOutput output;
  AddResults(absl::StrCat(kNumTokens, " tokens go and come"), round_trips,
             {.name = "figure_19a",
              .title = "330 tokens taken and brought back, modelled",
              .x_label = "tokens of a block",
              .y_label = "seconds",
              .max_y = 0.1,
              .log_x = true,
              .series = {}},
             &output);
  AddResults("latency", latencies,
             {.name = "figure_19b",
              .title = "OPT-13B, swap or recompute, simulated",
              .x_label = "tokens of a block",
              .y_label = "normalized latency, s/token",
              .max_y = 1,
              .log_x = true,
              .series = {}},
             &output);
  return output;
}

}  // namespace quire
