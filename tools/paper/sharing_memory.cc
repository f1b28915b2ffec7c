// SPDX-License-Identifier: Apache-2.0
//
// Figure 15: the share of blocks that several sequences of a request save by
// sharing, OPT-13B.
//
// Blocks are counted step by step and weighted by the time that a step takes:
// those that the sequences' tables name, each table counted by itself, are what
// there would be without sharing; those that are held are what there is. The
// rate is one at which nobody waits: sharing does not depend on it before
// groups are preempted.
//
// Parallel samples share the full blocks of the prompt, which follows from the
// lengths alone. What beams share also depends on how a model's beams push each
// other out: tools/simulator/candidates.h makes that up, fitted to two of the
// paper's numbers for Alpaca.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/paper/experiment.h"
#include "tools/paper/figures.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

struct Point {
  const char* workload;
  int num_sequences;
  int beam_width;  // 0: parallel sampling
  double paper;    // percent
  const char* note;
};

// Of ShareGPT the paper prints the least and the most, which must be those of
// the fewest and the most sequences.
constexpr Point kPoints[] = {
    {"alpaca", 2, 0, 6.09, ""},
    {"alpaca", 4, 0, 8.53, ""},
    {"alpaca", 6, 0, 9.79, ""},
    {"alpaca", 1, 2, 37.56, "the beams' model is fitted to it"},
    {"alpaca", 1, 4, 53.13, "predicted by that model"},
    {"alpaca", 1, 6, 55.16, "the beams' model is fitted to it"},
    {"sharegpt", 2, 0, 16.2, ""},
    {"sharegpt", 6, 0, 30.5, ""},
    {"sharegpt", 1, 2, 44.3, "predicted by that model"},
    {"sharegpt", 1, 6, 66.3, "predicted by that model"}};
constexpr int kNum = std::size(kPoints);

constexpr double kAlpacaRate = 2;  // requests/s
constexpr double kShareGptRate = 0.05;
// All that the workload's file has.
constexpr double kNumRequests = 2000;

bool IsAlpaca(const Point& point) {
  return std::string(point.workload) == "alpaca";
}

std::string Name(const Point& point) {
  return absl::StrCat(
      IsAlpaca(point) ? "Alpaca" : "ShareGPT", ", ",
      point.beam_width > 0
          ? absl::StrCat("beams of ", point.beam_width)
          : absl::StrCat(point.num_sequences, " parallel samples"),
      ", blocks saved");
}

absl::StatusOr<double> SavedShare(const Point& point,
                                  const FigureOptions& options) {
  QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                         ReadLengths(WorkloadFile(point.workload)));
  QUIRE_ASSIGN_OR_RETURN(
      const Experiment experiment,
      MakeExperiment(options.testbed, "paged", "a100_40g_opt13b",
                     {.lengths = lengths,
                      .num_sequences = point.num_sequences,
                      .beam_width = point.beam_width}));
  const double rate =
      options.testbed.speed * (IsAlpaca(point) ? kAlpacaRate : kShareGptRate);
  // Quick: what Alpaca's short prompts share wants all of them.
  const bool is_brief = options.quick && !IsAlpaca(point);
  const double num_requests = kNumRequests * (!is_brief              ? 1
                                              : point.beam_width > 0 ? 0.1
                                                                     : 0.25);
  QUIRE_ASSIGN_OR_RETURN(
      const SimulationResult result,
      RunAt(experiment, rate, options.trace_share * num_requests / rate,
            /*stop_at_last_arrival=*/true));
  return result.saved_share;
}

}  // namespace

absl::StatusOr<FigureOutput> RunSharingMemory(const FigureOptions& options) {
  std::vector<double> shares(kNum);
  QUIRE_RETURN_IF_ERROR(ForEach(kNum, options.num_threads, [&](int idx) {
    QUIRE_ASSIGN_OR_RETURN(shares[idx], SavedShare(kPoints[idx], options));
    return absl::OkStatus();
  }));
  FigureOutput output;
  for (int idx = 0; idx < kNum; ++idx) {
    output.rows.push_back({.figure = "15",
                           .what = Name(kPoints[idx]),
                           .paper = kPoints[idx].paper,
                           .ours = 100 * shares[idx],
                           .unit = Unit::kPercent,
                           .note = kPoints[idx].note});
  }
  return output;
}

}  // namespace quire
