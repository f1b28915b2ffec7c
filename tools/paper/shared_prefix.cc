// SPDX-License-Identifier: Apache-2.0
//
// Figure 16: translation with examples in front of every request, LLaMA-13B,
// rate at equal latency against Orca (Oracle), which shares nothing. The same
// on an H200 with the paper's pool, without a host's cost.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/paper/experiment.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

// Sentences of WMT'16 English to German in LLaMA tokens. The paper prints no
// lengths; these are an assumption.
constexpr double kMeanPromptLen = 30;
constexpr double kMeanOutputLen = 40;
constexpr double kSigma = 0.5;
constexpr int kNumLengths = 2000;

struct Shots {
  int num;
  int prefix_len;  // tokens
  double paper;    // ours over Oracle
};
constexpr Shots kShots[] = {{1, 80, 1.67}, {5, 341, 3.58}};
constexpr int kNumShots = std::size(kShots);

struct Machine {
  const char* preset;
  const char* label;
  bool is_papers;
};
// OPT-13B has the weights and the KV of LLaMA-13B, to one part in a thousand.
constexpr Machine kMachines[] = {
    {"a100_40g_llama13b", "", true},
    {"h200_opt13b_15k7", "H200, 15.7K slots, ", false}};
constexpr const char* kSystems[] = {"orca_oracle", "paged"};
constexpr int kMaxNumSeqs = 1024;  // not the limit here: memory is

}  // namespace

absl::StatusOr<FigureOutput> RunSharedPrefix(const FigureOptions& options) {
  const auto lengths = MakeLognormalLengths(kMeanPromptLen, kMeanOutputLen,
                                            kSigma, 512, kNumLengths, 1);
  constexpr int kNum = 2 * kNumShots * std::size(kMachines);
  std::vector<double> knees(kNum);
  QUIRE_RETURN_IF_ERROR(ForEach(kNum, options.num_threads, [&](int idx) {
    const bool ours = idx % 2 == 1;
    const Machine& machine = kMachines[idx / (2 * kNumShots)];
    QUIRE_ASSIGN_OR_RETURN(
        Experiment experiment,
        MakeExperiment(options.testbed, kSystems[idx % 2], machine.preset,
                       {.lengths = lengths,
                        .prefix_len = kShots[idx / 2 % kNumShots].prefix_len,
                        .prefix_cache = ours}));
    experiment.engine.max_num_seqs = kMaxNumSeqs;
    experiment.engine.max_num_batched_tokens = 2048 + kMaxNumSeqs;
    QUIRE_ASSIGN_OR_RETURN(
        knees[idx], FindKnee(experiment, options.TraceSeconds(
                                             machine.is_papers ? 600 : 120,
                                             machine.is_papers ? 120 : 30)));
    return absl::OkStatus();
  }));
  FigureOutput output;
  for (int idx = 0; idx < kNum / 2; ++idx) {
    const Shots& shots = kShots[idx % kNumShots];
    const Machine& machine = kMachines[idx / kNumShots];
    PaperRow row = {.figure = "16",
                    .what = absl::StrCat(machine.label, "shared prefix of ",
                                         shots.prefix_len,
                                         " tokens, ours over Orca (Oracle)"),
                    .ours = knees[2 * idx + 1] / std::max(1e-9, knees[2 * idx]),
                    .unit = Unit::kRatio,
                    .note = "lengths assumed: 30 in, 40 out"};
    if (machine.is_papers) row.paper = shots.paper;
    output.rows.push_back(row);
  }
  return output;
}

}  // namespace quire
