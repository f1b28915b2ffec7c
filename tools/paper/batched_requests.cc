// SPDX-License-Identifier: Apache-2.0
//
// Figure 13: how many requests run at a time, OPT-13B, at the paper's rates.
#include <string>
#include <vector>

#include "common/status_macros.h"
#include "tools/paper/experiment.h"
#include "tools/paper/figures.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

struct Point {
  const char* workload;
  double rate;  // requests/s
  const char* system;
  double paper;
};

constexpr Point kPoints[] = {
    {"sharegpt", 2, "orca_max", 7.00},     {"sharegpt", 2, "orca_pow2", 9.81},
    {"sharegpt", 2, "orca_oracle", 13.62}, {"sharegpt", 2, "paged", 30.42},
    {"alpaca", 30, "orca_max", 7.00},      {"alpaca", 30, "orca_pow2", 43.24},
    {"alpaca", 30, "orca_oracle", 72.75},  {"alpaca", 30, "paged", 132.44}};

// Far above every capacity, for the batch that the pool holds.
constexpr double kFlood = 10;  // times the paper's rate

}  // namespace

absl::StatusOr<FigureOutput> RunBatchedRequests(const FigureOptions& options) {
  const double trace_s = options.trace_share * 3600;  // as the paper's
  constexpr int kNum = std::size(kPoints);
  std::vector<SimulationResult> results(kNum + 2);
  std::vector<std::string> labels(kNum);
  QUIRE_RETURN_IF_ERROR(ForEach(kNum + 2, options.num_threads, [&](int idx) {
    // Two more: paging, flooded.
    const bool flood = idx >= kNum;
    const Point& point = kPoints[flood ? (idx - kNum) * 4 + 3 : idx];
    QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                           ReadLengths(WorkloadFile(point.workload)));
    QUIRE_ASSIGN_OR_RETURN(
        const Experiment experiment,
        MakeExperiment(options.testbed, point.system, "a100_40g_opt13b",
                       {.lengths = lengths}));
    if (!flood) labels[idx] = experiment.system.label;
    const bool is_alpaca = point.rate > 10;
    const double seconds = trace_s * (options.quick && is_alpaca ? 0.25 : 1);
    QUIRE_ASSIGN_OR_RETURN(
        results[idx],
        RunAt(experiment,
              options.testbed.speed * point.rate * (flood ? kFlood : 1),
              flood ? seconds / kFlood : seconds, true));
    return absl::OkStatus();
  }));
  FigureOutput output;
  for (int idx = 0; idx < kNum; ++idx) {
    const Point& point = kPoints[idx];
    const std::string load =
        point.rate > 10 ? ", Alpaca at 30/s" : ", ShareGPT at 2/s";
    const bool fitted = std::string(point.system) == "paged";
    output.rows.push_back(
        {.figure = "13",
         .what = labels[idx] + load + ", batched requests",
         .paper = point.paper,
         .ours = results[idx].num_batched_requests,
         .unit = Unit::kNumber,
         .note = fitted ? "the host's cost is fitted to it" : ""});
    if (!fitted) continue;
    output.rows.push_back({.figure = "13",
                           .what = labels[idx] +
                                   load.substr(0, load.find(" at")) +
                                   " at any rate, batched requests",
                           .ours = results[kNum + idx / 4].num_batched_requests,
                           .unit = Unit::kNumber,
                           .note = "what the pool holds"});
  }
  return output;
}

}  // namespace quire
