// SPDX-License-Identifier: Apache-2.0
//
// What the requests of a run say.
#ifndef TOOLS_LOADGEN_DATASET_H_
#define TOOLS_LOADGEN_DATASET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/loadgen/options.h"

namespace quire {

struct LoadPrompt {
  std::vector<uint32_t> token_ids;  // empty: `text` is the prompt
  std::string text;
  int64_t output_len = 0;  // max_tokens

  // Prompt tokens as far as known without a tokenizer.
  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
};

// The limits of the model that the prompts are for.
struct PromptLimits {
  int64_t vocab_size = 0;
  int64_t max_model_len = 0;  // prompt and output tokens; 0: unknown
};

// What MakePrompts() would fail with, as far as it depends on no model: to be
// known before a server is asked for one.
absl::Status CheckDataset(const DatasetOptions& options);

// `num_prompts` prompts, files being repeated from their start when short. A
// function of its arguments and of the file. NotFound for a missing file;
// InvalidArgument, naming the line, for a malformed one, and for requests that
// cannot fit the window.
absl::StatusOr<std::vector<LoadPrompt>> MakePrompts(
    const DatasetOptions& options, const PromptLimits& limits,
    int64_t num_prompts, int64_t seed);

}  // namespace quire

#endif  // TOOLS_LOADGEN_DATASET_H_
