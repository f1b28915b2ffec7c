// SPDX-License-Identifier: Apache-2.0
//
// Figure 17: conversations whose history is part of the prompt, up to the last
// 1,024 tokens, outputs up to 1,024, OPT-13B. Caching of earlier turns is off,
// as in the paper.
#include <string>
#include <vector>

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

}  // namespace

absl::StatusOr<FigureOutput> RunChatbot(const FigureOptions& options) {
  QUIRE_ASSIGN_OR_RETURN(const auto turns,
                         ReadLengths(WorkloadFile("sharegpt")));
  const auto chats =
      MakeChats(turns, kContinue, kMaxPromptLen, kMaxOutputLen, 1);
  constexpr const char* kSystems[] = {"orca_max", "orca_pow2", "orca_oracle",
                                      "paged"};
  constexpr double kShares[] = {0.2, 0.5, 0.7, 0.85, 1.0, 1.1, 1.25};
  constexpr int kNum = std::size(kSystems);
  std::vector<double> knees(kNum);
  std::vector<PlotSeries> series(kNum);
  QUIRE_RETURN_IF_ERROR(ForEach(kNum, options.num_threads, [&](int idx) {
    QUIRE_ASSIGN_OR_RETURN(
        Experiment experiment,
        MakeExperiment(kSystems[idx], "a100_40g_opt13b", {.lengths = chats}));
    const double trace_s = options.quick ? 900 : 3600;
    series[idx].label = experiment.system.label;
    QUIRE_ASSIGN_OR_RETURN(knees[idx], FindKnee(experiment, trace_s));
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
  for (int idx = 0; idx + 1 < kNum; ++idx) {
    output.rows.push_back({.figure = "17",
                           .what = "chatbot, ours over " + series[idx].label,
                           .paper = 2.0,
                           .ours = knees[kNum - 1] / knees[idx],
                           .unit = Unit::kRatio,
                           .note = ""});
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
