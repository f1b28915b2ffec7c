// SPDX-License-Identifier: Apache-2.0
//
// Figure 14: several sequences a request, OPT-13B, Alpaca: the rate at equal
// latency against Orca (Oracle), which computes and stores every sequence by
// itself. The same on an H200 with the paper's pool, without a host's cost.
//
// Orca's beams are sequences of their own: the same room, and no cost of
// copying from beam to beam, which favours it.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/paper/experiment.h"
#include "tools/paper/figures.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

constexpr int kMaxNumSeqs = 1024;  // not the limit here: memory is

struct Point {
  int num_sequences;
  int beam_width;     // 0: parallel sampling
  double paper_gain;  // over Oracle; < 0: none printed
};
constexpr Point kPoints[] = {{1, 0, 1.3}, {2, 0, -1}, {4, 0, -1}, {6, 0, -1},
                             {1, 2, -1},  {1, 4, -1}, {1, 6, 2.3}};
constexpr int kNumPoints = std::size(kPoints);

// No sharing and the most of it.
constexpr int kQuickPoints[] = {0, 6};

struct Machine {
  const char* preset;
  const char* label;
  bool is_papers;
};
constexpr Machine kMachines[] = {
    {"a100_40g_opt13b", "", true},
    {"h200_opt13b_15k7", "H200, 15.7K slots, ", false}};

std::string Name(const Point& point) {
  if (point.beam_width > 0) return absl::StrCat("beams of ", point.beam_width);
  if (point.num_sequences == 1) return "one sequence";
  return absl::StrCat(point.num_sequences, " parallel samples");
}

absl::StatusOr<double> Gain(const Testbed& testbed, const Point& point,
                            const Machine& machine,
                            const std::vector<RequestLengths>& lengths,
                            double trace_s) {
  const auto knee = [&](const char* system, int num_sequences,
                        int beam_width) -> absl::StatusOr<double> {
    QUIRE_ASSIGN_OR_RETURN(Experiment experiment,
                           MakeExperiment(testbed, system, machine.preset,
                                          {.lengths = lengths,
                                           .num_sequences = num_sequences,
                                           .beam_width = beam_width}));
    experiment.engine.max_num_seqs = kMaxNumSeqs;
    experiment.engine.max_num_batched_tokens = 2048 + kMaxNumSeqs;
    return FindKnee(experiment, trace_s);
  };
  QUIRE_ASSIGN_OR_RETURN(const double ours,
                         knee("paged", point.num_sequences, point.beam_width));
  QUIRE_ASSIGN_OR_RETURN(
      const double oracle,
      knee("orca_oracle", std::max(point.num_sequences, point.beam_width), 0));
  return ours / std::max(1e-9, oracle);
}

}  // namespace

absl::StatusOr<FigureOutput> RunSharingRates(const FigureOptions& options) {
  QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                         ReadLengths(WorkloadFile("alpaca")));
  struct Job {
    const Machine* machine;
    const Point* point;
    double gain = 0;
  };
  std::vector<Job> jobs;
  for (const Machine& machine : kMachines) {
    for (int idx = 0; idx < kNumPoints; ++idx) {
      if (options.quick && !absl::c_linear_search(kQuickPoints, idx)) continue;
      jobs.push_back({.machine = &machine, .point = &kPoints[idx]});
    }
  }
  const auto num_jobs = static_cast<int>(jobs.size());
  // The heaviest first, so that no thread ends with them alone.
  QUIRE_RETURN_IF_ERROR(ForEach(num_jobs, options.num_threads, [&](int idx) {
    Job& job = jobs[num_jobs - 1 - idx];
    const bool is_papers = job.machine->is_papers;
    const double trace_s =
        options.TraceSeconds(is_papers ? 600 : 120, is_papers ? 60 : 15);
    QUIRE_ASSIGN_OR_RETURN(job.gain, Gain(options.testbed, *job.point,
                                          *job.machine, lengths, trace_s));
    return absl::OkStatus();
  }));
  FigureOutput output;
  for (const Job& job : jobs) {
    PaperRow row = {.figure = "14",
                    .what = absl::StrCat(job.machine->label, Name(*job.point),
                                         ", ours over Orca (Oracle)"),
                    .ours = job.gain,
                    .unit = Unit::kRatio,
                    .note = ""};
    if (job.machine->is_papers && job.point->paper_gain > 0) {
      row.paper = job.point->paper_gain;
    }
    output.rows.push_back(row);
  }
  return output;
}

}  // namespace quire
