// SPDX-License-Identifier: Apache-2.0
//
// Figure 16: translation with examples in front of every request, LLaMA-13B,
// rate at equal latency against Orca (Oracle), which shares nothing.
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

}  // namespace

absl::StatusOr<FigureOutput> RunSharedPrefix(const FigureOptions& options) {
  const auto lengths = MakeLognormalLengths(kMeanPromptLen, kMeanOutputLen,
                                            kSigma, 512, kNumLengths, 1);
  constexpr const char* kSystems[] = {"orca_oracle", "paged"};
  std::vector<double> knees(2 * std::size(kShots));
  QUIRE_RETURN_IF_ERROR(ForEach(
      static_cast<int>(knees.size()), options.num_threads, [&](int idx) {
        const bool ours = idx % 2 == 1;
        QUIRE_ASSIGN_OR_RETURN(
            const Experiment experiment,
            MakeExperiment(kSystems[idx % 2], "a100_40g_llama13b",
                           {.lengths = lengths,
                            .prefix_len = kShots[idx / 2].prefix_len,
                            .prefix_cache = ours}));
        QUIRE_ASSIGN_OR_RETURN(knees[idx],
                               FindKnee(experiment, options.quick ? 120 : 600));
        return absl::OkStatus();
      }));
  FigureOutput output;
  for (size_t idx = 0; idx < std::size(kShots); ++idx) {
    output.rows.push_back(
        {.figure = "16",
         .what = absl::StrCat("shared prefix of ", kShots[idx].prefix_len,
                              " tokens, ours over Orca (Oracle)"),
         .paper = kShots[idx].paper,
         .ours = knees[2 * idx + 1] / knees[2 * idx],
         .unit = Unit::kRatio,
         .note = "lengths assumed: 30 in, 40 out"});
  }
  return output;
}

}  // namespace quire
