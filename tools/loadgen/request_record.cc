// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/request_record.h"

#include "absl/strings/str_cat.h"
#include "proto/inference.pb.h"
#include "tools/cli/rpc.h"

namespace quire {

bool StreamJudge::Add(const v1::GenerateResponse& response, absl::Time now) {
  if (is_complete_ && fault_.empty()) {
    fault_ = "a message followed the complete one";
  }
  if (response.has_complete()) {
    is_complete_ = true;
    const v1::Usage& usage = response.complete().usage();
    record_->num_prompt_tokens = usage.prompt_tokens();
    if (fault_.empty() && usage.output_tokens() != record_->token_ids.size()) {
      fault_ =
          absl::StrCat("the server counted ", usage.output_tokens(),
                       " output tokens and sent ", record_->token_ids.size());
    }
  }
  if (!response.has_chunk()) return fault_.empty();
  const v1::Chunk& chunk = response.chunk();
  if (fault_.empty() && chunk.token_offset() != record_->token_ids.size()) {
    fault_ = absl::StrCat(
        chunk.token_offset() > record_->token_ids.size() ? "gap" : "repetition",
        ": tokens from offset ", chunk.token_offset(), " after ",
        record_->token_ids.size(), " tokens");
  }
  if (chunk.token_ids_size() > 0) {
    record_->arrivals.push_back({now, chunk.token_ids_size()});
    record_->token_ids.insert(record_->token_ids.end(),
                              chunk.token_ids().begin(),
                              chunk.token_ids().end());
  }
  record_->text += chunk.text();
  return fault_.empty();
}

void StreamJudge::Finish(const absl::Status& status, bool cancelled,
                         absl::Time now) {
  record_->end = now;
  record_->outcome = RequestOutcome::kFailed;
  if (!fault_.empty()) {
    record_->error = fault_;
  } else if (cancelled && absl::IsCancelled(status)) {
    record_->outcome = RequestOutcome::kCancelled;
  } else if (!status.ok()) {
    record_->error = DescribeStatus(status);
  } else if (!is_complete_) {
    record_->error =
        absl::StrCat("the stream ended after ", record_->token_ids.size(),
                     " tokens without saying that it is complete");
  } else {
    record_->outcome = RequestOutcome::kCompleted;
  }
}

}  // namespace quire
