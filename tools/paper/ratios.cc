// SPDX-License-Identifier: Apache-2.0
//
// Not a figure: what the paper's comparison becomes on an H200, where the same
// model leaves eight times the memory. With the pool capped to the paper's
// slots, and with all of it. Run-ahead 2, no Python.
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

struct Panel {
  const char* preset;
  const char* workload;
  const char* label;
  double trace_s;
  double quick_trace_s;
};
constexpr Panel kPanels[] = {
    {"h200_opt13b_15k7", "sharegpt", "H200, 15.7K slots, ShareGPT", 900, 240},
    {"h200_opt13b", "sharegpt", "H200, whole pool, ShareGPT", 600, 120},
    {"h200_opt13b_15k7", "alpaca", "H200, 15.7K slots, Alpaca", 240, 30},
    {"h200_opt13b", "alpaca", "H200, whole pool, Alpaca", 240, 30}};
constexpr int kNumSystems = 5;

}  // namespace

absl::StatusOr<FigureOutput> RunRatios(const FigureOptions& options) {
  const int num_panels =
      options.quick ? 2 : static_cast<int>(std::size(kPanels));
  std::vector<double> knees(num_panels * kNumSystems);
  QUIRE_RETURN_IF_ERROR(ForEach(
      static_cast<int>(knees.size()), options.num_threads, [&](int idx) {
        const Panel& panel = kPanels[idx / kNumSystems];
        QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                               ReadLengths(WorkloadFile(panel.workload)));
        QUIRE_ASSIGN_OR_RETURN(
            Experiment experiment,
            MakeExperiment(ServingSystems()[idx % kNumSystems].name,
                           panel.preset, {.lengths = lengths}));
        experiment.engine.run_ahead_depth = 2;
        experiment.engine.preemption_mode = PreemptionMode::kAuto;
        experiment.engine.max_num_seqs = 1024;
        experiment.engine.max_num_batched_tokens = 2048 + 1024;
        QUIRE_ASSIGN_OR_RETURN(
            knees[idx], FindKnee(experiment, options.quick ? panel.quick_trace_s
                                                           : panel.trace_s));
        return absl::OkStatus();
      }));
  FigureOutput output;
  for (int panel = 0; panel < num_panels; ++panel) {
    const double* of_panel = &knees[panel * kNumSystems];
    const double ours = of_panel[kNumSystems - 1];
    output.rows.push_back(
        {.figure = "H200",
         .what = absl::StrCat(kPanels[panel].label, ", ours, knee"),
         .ours = ours,
         .unit = Unit::kRate,
         .note = ""});
    for (int system = kNumSystems - 2; system >= 0; --system) {
      output.rows.push_back(
          {.figure = "H200",
           .what = absl::StrCat(kPanels[panel].label, ", ours over ",
                                ServingSystems()[system].label),
           .ours = ours / std::max(1e-9, of_panel[system]),
           .unit = Unit::kRatio,
           .note = ""});
    }
  }
  return output;
}

}  // namespace quire
