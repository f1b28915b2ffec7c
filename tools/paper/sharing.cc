// SPDX-License-Identifier: Apache-2.0
//
// Figures 14 and 15: several sequences a request, OPT-13B, Alpaca: what sharing
// blocks saves, and the rate at equal latency against Orca (Oracle), which
// computes and stores every sequence by itself.
//
// Beams go on from candidates that tools/simulator/candidates.h makes up; how
// much beams share follows from how sharp those are. `kBeamCandidates` are an
// assumption.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/paper/experiment.h"
#include "tools/paper/figures.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

constexpr CandidateOptions kBeamCandidates = {.floor = 0.02, .sharpness = 1};

constexpr int kMaxNumSeqs = 1024;

struct Point {
  int num_sequences;
  int beam_width;      // 0: parallel sampling
  double paper_saved;  // percent; < 0: none printed
  double paper_gain;   // over Oracle; < 0: none printed
};
constexpr Point kPoints[] = {
    {1, 0, -1, 1.3},   {2, 0, 6.09, -1},  {4, 0, 8.53, -1},  {6, 0, 9.79, -1},
    {1, 2, 37.56, -1}, {1, 4, 53.13, -1}, {1, 6, 55.16, 2.3}};
constexpr int kNum = std::size(kPoints);

// Of the knee: busy, but nobody waits long.
constexpr double kLoad = 0.8;

std::string Name(const Point& point) {
  if (point.beam_width > 0) return absl::StrCat("beams of ", point.beam_width);
  if (point.num_sequences == 1) return "one sequence";
  return absl::StrCat(point.num_sequences, " parallel samples");
}

struct Outcome {
  double ours = 0;  // knees, requests/s
  double oracle = 0;
  double saved = 0;  // share of blocks
};

absl::StatusOr<Outcome> RunPoint(const Point& point,
                                 const std::vector<RequestLengths>& lengths,
                                 double trace_s) {
  QUIRE_ASSIGN_OR_RETURN(Experiment ours,
                         MakeExperiment("paged", "a100_40g_opt13b",
                                        {.lengths = lengths,
                                         .num_sequences = point.num_sequences,
                                         .beam_width = point.beam_width}));
  ours.candidates = kBeamCandidates;
  // Not the limit here: memory is.
  ours.engine.max_num_seqs = kMaxNumSeqs;
  ours.engine.max_num_batched_tokens = 2048 + kMaxNumSeqs;
  // Orca's beams are sequences of their own: the same room, and no cost of
  // copying from beam to beam, which favours it.
  QUIRE_ASSIGN_OR_RETURN(
      Experiment oracle,
      MakeExperiment(
          "orca_oracle", "a100_40g_opt13b",
          {.lengths = lengths,
           .num_sequences = std::max(point.num_sequences, point.beam_width)}));
  oracle.engine.max_num_seqs = kMaxNumSeqs;
  oracle.engine.max_num_batched_tokens = 2048 + kMaxNumSeqs;
  QUIRE_ASSIGN_OR_RETURN(const SimulationResult probe,
                         RunAt(ours, 1, 100, false));
  if (ours.load.num_sequences + ours.load.beam_width > 1 &&
      probe.saved_share == 0) {
    return absl::FailedPreconditionError(
        Name(point) + " share no blocks: the engine does not run them");
  }
  Outcome outcome;
  QUIRE_ASSIGN_OR_RETURN(outcome.ours, FindKnee(ours, trace_s));
  QUIRE_ASSIGN_OR_RETURN(outcome.oracle, FindKnee(oracle, trace_s));
  QUIRE_ASSIGN_OR_RETURN(const SimulationResult result,
                         RunAt(ours, kLoad * outcome.ours, trace_s, true));
  outcome.saved = result.saved_share;
  return outcome;
}

}  // namespace

absl::StatusOr<FigureOutput> RunSharing(const FigureOptions& options) {
  QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                         ReadLengths(WorkloadFile("alpaca")));
  std::vector<Outcome> outcomes(kNum);
  QUIRE_RETURN_IF_ERROR(ForEach(kNum, options.num_threads, [&](int idx) {
    QUIRE_ASSIGN_OR_RETURN(outcomes[idx], RunPoint(kPoints[idx], lengths,
                                                   options.quick ? 60 : 600));
    return absl::OkStatus();
  }));
  FigureOutput output;
  for (int idx = 0; idx < kNum; ++idx) {
    const Point& point = kPoints[idx];
    PaperRow gain = {.figure = "14",
                     .what = Name(point) + ", ours over Orca (Oracle)",
                     .ours = outcomes[idx].ours / outcomes[idx].oracle,
                     .unit = Unit::kRatio,
                     .note = ""};
    if (point.paper_gain > 0) gain.paper = point.paper_gain;
    output.rows.push_back(gain);
  }
  for (int idx = 0; idx < kNum; ++idx) {
    const Point& point = kPoints[idx];
    if (point.paper_saved < 0) continue;
    output.rows.push_back({.figure = "15",
                           .what = Name(point) + ", blocks saved",
                           .paper = point.paper_saved,
                           .ours = 100 * outcomes[idx].saved,
                           .unit = Unit::kPercent,
                           .note = ""});
  }
  return output;
}

}  // namespace quire
