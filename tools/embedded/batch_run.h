// SPDX-License-Identifier: Apache-2.0
//
// A file of prompts to a file of answers, a bounded number at once.
#ifndef TOOLS_EMBEDDED_BATCH_RUN_H_
#define TOOLS_EMBEDDED_BATCH_RUN_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/inference.pb.h"
#include "proto/types.pb.h"
#include "tools/cli/progress.h"
#include "tools/embedded/batch_output.h"
#include "tools/embedded/llm.h"

namespace quire {

struct BatchOptions {
  std::string input;            // a path
  v1::SamplingParams sampling;  // of lines that say nothing else
  uint64_t seed = 0;
  int64_t jobs = 1;  // requests at once
};

struct BatchCounts {
  int64_t num_lines = 0;
  int64_t num_skipped = 0;  // the output had them
  int64_t num_answered = 0;
  int64_t num_bad = 0;  // answered by an error
  int64_t num_output_tokens = 0;
  bool was_stopped = false;
};

// Begins a request and calls `done` once, from any thread, or before it
// returns.
using StartRequest = std::function<void(const v1::GenerateRequest& request,
                                        std::function<void(LLMResult)> done)>;

// Whether --input=`path` is a file that can be read; NotFound says why not.
absl::Status CheckBatchInput(const std::string& path);

// Answers every line of the input that `output` has no answer for, in the order
// in which they end:
//
//   {"id", "text", "token_ids", "finish_reason", "usage"}, or "answers" with a
//   list of these for n > 1, or {"id", "error"} for a line that is refused
//   (InvalidArgument); the next run tries it again (BatchOutput::Open).
//
// Any other error ends the run, as nothing says that the next line fares
// better; the next run begins with what has no answer yet. An id that comes a
// second time is an error under "line-N". `stop` becomes true: no further line
// begins, and those that run are left out.
absl::StatusOr<BatchCounts> RunBatch(const BatchOptions& options,
                                     const StartRequest& start,
                                     BatchOutput* output, Progress* progress,
                                     const std::atomic<bool>* stop);

}  // namespace quire

#endif  // TOOLS_EMBEDDED_BATCH_RUN_H_
