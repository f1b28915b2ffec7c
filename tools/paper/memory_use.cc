// SPDX-License-Identifier: Apache-2.0
//
// Figure 2: what the KV pool is used for, OPT-13B, ShareGPT, all systems at
// their limit. The paper counts what a buddy allocator rounds up as external.
#include <string>
#include <vector>

#include "common/status_macros.h"
#include "tools/paper/experiment.h"
#include "tools/paper/figures.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

// Above every system's capacity, 2/s being just what paging serves.
constexpr double kRate = 3;

struct Printed {
  const char* system;
  double token_states, reserved, internal, external;  // percent
};

// Figure 2 of the paper; of vLLM it prints the token states alone.
constexpr Printed kPrinted[] = {{"orca_max", 20.4, 13.3, 57.3, 8.9},
                                {"orca_pow2", 26.8, 17.9, 13.6, 41.6},
                                {"orca_oracle", 38.2, 25.2, 0, 36.6},
                                {"paged", 96.3, -1, -1, -1}};

}  // namespace

absl::StatusOr<FigureOutput> RunMemoryUse(const FigureOptions& options) {
  QUIRE_ASSIGN_OR_RETURN(const auto lengths,
                         ReadLengths(WorkloadFile("sharegpt")));
  const double trace_s = options.TraceSeconds(3600, 900);
  std::vector<SimulationResult> results(std::size(kPrinted));
  QUIRE_RETURN_IF_ERROR(
      ForEach(std::size(kPrinted), options.num_threads, [&](int idx) {
        QUIRE_ASSIGN_OR_RETURN(
            const Experiment experiment,
            MakeExperiment(options.testbed, kPrinted[idx].system,
                           "a100_40g_opt13b", {.lengths = lengths}));
        QUIRE_ASSIGN_OR_RETURN(
            results[idx],
            RunAt(experiment, options.testbed.speed * kRate, trace_s, true));
        return absl::OkStatus();
      }));
  FigureOutput output;
  for (size_t idx = 0; idx < std::size(kPrinted); ++idx) {
    const Printed& printed = kPrinted[idx];
    const KvShares& kv = results[idx].kv;
    QUIRE_ASSIGN_OR_RETURN(const ServingSystem system,
                           FindServingSystem(printed.system));
    const auto add = [&](const char* what, double paper, double share) {
      PaperRow row = {.figure = "2",
                      .what = system.label + ", KV " + what,
                      .ours = 100 * share,
                      .unit = Unit::kPercent};
      if (paper >= 0) row.paper = paper;
      output.rows.push_back(row);
    };
    add("token states", printed.token_states, kv.token_states);
    add("reserved", printed.reserved, kv.reserved);
    add("internal fragmentation", printed.internal, kv.internal);
    add("external and free", printed.external, kv.free);
  }
  output.rows.back().note = "watermark and blocks just freed";
  return output;
}

}  // namespace quire
