// SPDX-License-Identifier: Apache-2.0
//
// Figure 17: conversations whose history is part of the prompt, up to the last
// 1,024 tokens, outputs up to 1,024, OPT-13B. Caching of earlier turns is off,
// as in the paper.
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

constexpr int kMaxPromptLen = 1024;  // tokens
constexpr int kMaxOutputLen = 1024;
// Of another turn: conversations of 8 turns on average, so that most prompts
// are full, as the paper says of its own.
constexpr double kContinue = 7.0 / 8;

constexpr const char* kSystems[] = {"orca_max", "orca_pow2", "orca_oracle",
                                    "paged"};
constexpr int kNumSystems = std::size(kSystems);

struct Machine {
  const char* preset;
  const char* label;
  bool is_papers;
};
constexpr Machine kMachines[] = {
    {"a100_40g_opt13b", "", true},
    {"h200_opt13b_15k7", "H200, 15.7K slots, ", false}};

// Of the knee, for the curves.
constexpr double kShares[] = {0.2, 0.5, 0.7, 0.85, 1.0, 1.1, 1.25};

}  // namespace

absl::StatusOr<FigureOutput> RunChatbot(const FigureOptions& options) {
  QUIRE_ASSIGN_OR_RETURN(const auto turns,
                         ReadLengths(WorkloadFile("sharegpt")));
  const auto chats =
      MakeChats(turns, kContinue, kMaxPromptLen, kMaxOutputLen, 1);
  constexpr int kNum = kNumSystems * std::size(kMachines);
  std::vector<double> knees(kNum);
  std::vector<PlotSeries> series(kNumSystems);
  QUIRE_RETURN_IF_ERROR(ForEach(kNum, options.num_threads, [&](int idx) {
    const Machine& machine = kMachines[idx / kNumSystems];
    QUIRE_ASSIGN_OR_RETURN(
        Experiment experiment,
        MakeExperiment(options.testbed, kSystems[idx % kNumSystems],
                       machine.preset, {.lengths = chats}));
    const double trace_s = options.TraceSeconds(machine.is_papers ? 3600 : 900,
                                                machine.is_papers ? 900 : 240);
    QUIRE_ASSIGN_OR_RETURN(knees[idx], FindKnee(experiment, trace_s));
    if (!machine.is_papers) return absl::OkStatus();
    series[idx].label = experiment.system.label;
    for (double share : kShares) {
      QUIRE_ASSIGN_OR_RETURN(
          const SimulationResult result,
          RunAt(experiment, share * knees[idx], trace_s, false));
      series[idx].points.push_back(
          {share * knees[idx], result.normalized_latency.mean});
    }
    return absl::OkStatus();
  }));
  FigureOutput output;
  for (int idx = 0; idx < kNum; ++idx) {
    const int system = idx % kNumSystems;
    if (system + 1 == kNumSystems) continue;
    const Machine& machine = kMachines[idx / kNumSystems];
    const double ours = knees[idx - system + kNumSystems - 1];
    PaperRow row = {.figure = "17",
                    .what = absl::StrCat(machine.label, "chatbot, ours over ",
                                         series[system].label),
                    .ours = ours / std::max(1e-9, knees[idx]),
                    .unit = Unit::kRatio,
                    .note = ""};
    if (machine.is_papers) row.paper = 2.0;
    output.rows.push_back(row);
  }
  output.plots.push_back({.name = "figure_17",
                          .title = "OPT-13B, chatbot, simulated",
                          .x_label = "requests/s",
                          .y_label = "normalized latency, s/token",
                          .max_y = 1,
                          .series = series});
  return output;
}

}  // namespace quire
