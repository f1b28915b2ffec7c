// SPDX-License-Identifier: Apache-2.0
//
// A line of a file of prompts.
#ifndef TOOLS_EMBEDDED_BATCH_INPUT_H_
#define TOOLS_EMBEDDED_BATCH_INPUT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "proto/inference.pb.h"
#include "proto/types.pb.h"

namespace quire {

struct BatchLine {
  // Of the line, or "line-N": N counts from 1.
  std::string id;
  // InvalidArgument, beginning with "line N: ", if it is no request.
  absl::Status status;
  v1::GenerateRequest request;
};

// Reads {"id", "prompt" or "token_ids", "sampling": {...}}. What "sampling"
// sets (fields of quire.v1.SamplingParams in JSON, in either spelling) goes
// before `defaults`. A request without a seed gets one made from its id and
// `seed`, so that it samples the same in every run.
BatchLine ParseBatchLine(int64_t number, const std::string& line,
                         const v1::SamplingParams& defaults, uint64_t seed);

}  // namespace quire

#endif  // TOOLS_EMBEDDED_BATCH_INPUT_H_
