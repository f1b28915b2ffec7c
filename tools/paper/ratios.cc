// SPDX-License-Identifier: Apache-2.0
//
// Not a figure: what the paper's comparison becomes on an H200, where the same
// model leaves eight times the memory. With the pool capped to the paper's
// slots, and with all of it. Run-ahead 2, no Python.
//
// Static batching stands there twice: as //coordinator/scheduler:static_batch
// serves, which answers each request when it ends, and answering a batch when
// all of it has ended, as request-level scheduling does.
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

struct Variant {
  const char* system;
  bool answers_by_batch;
};
// Ours last; in order of capacity.
constexpr Variant kVariants[] = {
    {"static_batch", true}, {"static_batch", false}, {"orca_max", false},
    {"orca_pow2", false},   {"orca_oracle", false},  {"paged", false}};
constexpr int kNumVariants = std::size(kVariants);

}  // namespace

absl::StatusOr<FigureOutput> RunRatios(const FigureOptions& options) {
  const int num_panels =
      options.quick ? 2 : static_cast<int>(std::size(kPanels));
  std::vector<double> knees(num_panels * kNumVariants);
  std::vector<std::string> labels(kNumVariants);
  QUIRE_RETURN_IF_ERROR(ForEach(
      static_cast<int>(knees.size()), options.num_threads, [&](int idx) {
        const Panel& panel = kPanels[idx / kNumVariants];
        const Variant& variant = kVariants[idx % kNumVariants];
        QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                               ReadLengths(WorkloadFile(panel.workload)));
        QUIRE_ASSIGN_OR_RETURN(
            Experiment experiment,
            MakeExperiment(options.testbed, variant.system, panel.preset,
                           {.lengths = lengths}));
        experiment.answers_by_batch = variant.answers_by_batch;
        experiment.engine.run_ahead_depth = 2;
        experiment.engine.preemption_mode = PreemptionMode::kAuto;
        experiment.engine.max_num_seqs = 1024;
        experiment.engine.max_num_batched_tokens = 2048 + 1024;
        if (idx < kNumVariants) {
          labels[idx] = experiment.system.label;
          if (variant.answers_by_batch) labels[idx] += ", whole batches";
        }
        QUIRE_ASSIGN_OR_RETURN(
            knees[idx],
            FindKnee(experiment,
                     options.TraceSeconds(panel.trace_s, panel.quick_trace_s)));
        return absl::OkStatus();
      }));
  FigureOutput output;
  for (int panel = 0; panel < num_panels; ++panel) {
    const double* of_panel = &knees[panel * kNumVariants];
    const double ours = of_panel[kNumVariants - 1];
    output.rows.push_back(
        {.figure = "H200",
         .what = absl::StrCat(kPanels[panel].label, ", ours, knee"),
         .ours = ours,
         .unit = Unit::kRate,
         .note = ""});
    for (int variant = kNumVariants - 2; variant >= 0; --variant) {
      output.rows.push_back(
          {.figure = "H200",
           .what = absl::StrCat(kPanels[panel].label, ", ours over ",
                                labels[variant]),
           .ours = ours / std::max(1e-9, of_panel[variant]),
           .unit = Unit::kRatio,
           .note = ""});
    }
  }
  return output;
}

}  // namespace quire
