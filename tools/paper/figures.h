// SPDX-License-Identifier: Apache-2.0
//
// The figures of "Efficient Memory Management for Large Language Model Serving
// with PagedAttention" (SOSP'23, arXiv 2309.06180), run again.
#ifndef TOOLS_PAPER_FIGURES_H_
#define TOOLS_PAPER_FIGURES_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/paper/paper_table.h"
#include "tools/paper/svg_plot.h"
#include "tools/paper/testbed.h"

namespace quire {

struct FigureOptions {
  Testbed testbed = {};
  bool quick = false;      // shorter traces, fewer points
  int num_threads = 2;     // 1 on a real testbed
  double trace_share = 1;  // of each trace's length; tests take less

  // Of a trace that lasts so long, or so long when it is quick.
  double TraceSeconds(double full_s, double quick_s) const {
    return trace_share * (quick ? quick_s : full_s);
  }
};

struct FigureOutput {
  std::vector<PaperRow> rows;
  std::vector<Plot> plots;
};

struct Figure {
  std::string name;  // of --figure
  std::string title;
  // FailedPrecondition if the engine lacks what the figure is about.
  std::function<absl::StatusOr<FigureOutput>(const FigureOptions&)> run;
};

// In the order of the paper; "ratios" comes last.
const std::vector<Figure>& Figures();

// One per file.
absl::StatusOr<FigureOutput> RunMemoryUse(const FigureOptions& options);
absl::StatusOr<FigureOutput> RunLatencyAgainstRate(const FigureOptions&);
absl::StatusOr<FigureOutput> RunBatchedRequests(const FigureOptions& options);
absl::StatusOr<FigureOutput> RunSharingRates(const FigureOptions& options);
absl::StatusOr<FigureOutput> RunSharingMemory(const FigureOptions& options);
absl::StatusOr<FigureOutput> RunSharedPrefix(const FigureOptions& options);
absl::StatusOr<FigureOutput> RunChatbot(const FigureOptions& options);
absl::StatusOr<FigureOutput> RunBlockSizes(const FigureOptions& options);
absl::StatusOr<FigureOutput> RunPreemption(const FigureOptions& options);
absl::StatusOr<FigureOutput> RunRatios(const FigureOptions& options);

}  // namespace quire

#endif  // TOOLS_PAPER_FIGURES_H_
