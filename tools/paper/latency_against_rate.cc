// SPDX-License-Identifier: Apache-2.0
//
// Figure 12: normalized latency against request rate, OPT-13B, five systems.
// The paper prints curves; the knees in the table were read off them.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "common/status_macros.h"
#include "tools/paper/experiment.h"
#include "tools/paper/figures.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

struct Panel {
  const char* workload;
  const char* label;
  double trace_s;
  double quick_trace_s;
  double paper_knees[5];  // of ServingSystems(), requests/s
};

constexpr Panel kPanels[] = {
    {"sharegpt", "ShareGPT", 3600, 900, {0.3, 0.5, 0.75, 1.1, 1.9}},
    {"alpaca", "Alpaca", 1200, 200, {5, 7, 13, 20, 28}}};
constexpr int kNumSystems = 5;

// Of the knee.
constexpr double kShares[] = {0.1, 0.3,  0.5, 0.65, 0.8, 0.9,
                              1.0, 1.05, 1.1, 1.2,  1.4};
constexpr double kMaxLatency = 1;  // s/token, as the paper's axes

struct Curve {
  double knee = 0;
  PlotSeries series;
};

absl::StatusOr<Curve> RunCurve(const Panel& panel, const std::string& system,
                               const FigureOptions& options) {
  QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                         ReadLengths(WorkloadFile(panel.workload)));
  QUIRE_ASSIGN_OR_RETURN(
      const Experiment experiment,
      MakeExperiment(options.testbed, system, "a100_40g_opt13b",
                     {.lengths = lengths}));
  const double trace_s =
      options.TraceSeconds(panel.trace_s, panel.quick_trace_s);
  Curve curve;
  curve.series.label = experiment.system.label;
  QUIRE_ASSIGN_OR_RETURN(curve.knee, FindKnee(experiment, trace_s));
  for (double share : kShares) {
    QUIRE_ASSIGN_OR_RETURN(
        const SimulationResult result,
        RunAt(experiment, share * curve.knee, trace_s, false));
    curve.series.points.push_back(
        {share * curve.knee, result.normalized_latency.mean});
    if (result.normalized_latency.mean > kMaxLatency) break;
  }
  return curve;
}

}  // namespace

absl::StatusOr<FigureOutput> RunLatencyAgainstRate(
    const FigureOptions& options) {
  constexpr int kNumCurves = kNumSystems * std::size(kPanels);
  std::vector<Curve> curves(kNumCurves);
  QUIRE_RETURN_IF_ERROR(ForEach(kNumCurves, options.num_threads, [&](int idx) {
    QUIRE_ASSIGN_OR_RETURN(
        curves[idx],
        RunCurve(kPanels[idx / kNumSystems],
                 ServingSystems()[idx % kNumSystems].name, options));
    return absl::OkStatus();
  }));
  FigureOutput output;
  for (size_t idx = 0; idx < std::size(kPanels); ++idx) {
    const Panel& panel = kPanels[idx];
    Plot plot = {.name = std::string("figure_12_") + panel.workload,
                 .title = std::string("OPT-13B, ") + panel.label +
                          " lengths (synthetic), simulated",
                 .x_label = "requests/s",
                 .y_label = "normalized latency, s/token",
                 .max_y = kMaxLatency,
                 .series = {}};
    const Curve* panel_curves = &curves[idx * kNumSystems];
    for (int system = 0; system < kNumSystems; ++system) {
      const Curve& curve = panel_curves[system];
      plot.series.push_back(curve.series);
      output.rows.push_back(
          {.figure = "12",
           .what = curve.series.label + ", " + panel.label + ", knee",
           .paper = panel.paper_knees[system],
           .ours = curve.knee,
           .unit = Unit::kRate,
           .note = "paper's read off a plot"});
    }
    const double ours = panel_curves[kNumSystems - 1].knee;
    for (int system = 0; system + 1 < kNumSystems; ++system) {
      output.rows.push_back(
          {.figure = "12",
           .what = std::string("ours over ") +
                   panel_curves[system].series.label + ", " + panel.label,
           .paper =
               panel.paper_knees[kNumSystems - 1] / panel.paper_knees[system],
           .ours = ours / std::max(1e-9, panel_curves[system].knee),
           .unit = Unit::kRatio,
           .note = ""});
    }
    output.plots.push_back(plot);
  }
  return output;
}

}  // namespace quire
