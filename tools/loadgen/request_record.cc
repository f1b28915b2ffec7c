// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/request_record.h"

#include "absl/strings/str_cat.h"
#include "proto/inference.pb.h"
#include "tools/cli/rpc.h"

namespace quire {

void StreamJudge::Complete(const v1::GenerateResponse& response) {
  is_complete_ = true;
  const v1::Usage& usage = response.complete().usage();
  record_->num_prompt_tokens = usage.prompt_tokens();
  if (!fault_.empty()) return;
  if (usage.output_tokens() != record_->num_output_tokens()) {
    fault_ =
        absl::StrCat("the server counted ", usage.output_tokens(),
                     " output tokens and sent ", record_->num_output_tokens());
  } else if (num_sequences_ > 1 &&
             record_->sequences.size() != num_sequences_) {
    fault_ = absl::StrCat("of ", num_sequences_, " sequences only ",
                          record_->sequences.size(), " were heard of");
  }
}

bool StreamJudge::Add(const v1::GenerateResponse& response, absl::Time now) {
  if (is_complete_ && fault_.empty()) {
    fault_ = "a message followed the complete one";
  }
  if (response.has_complete()) Complete(response);
  if (!response.has_chunk()) return fault_.empty();
  const v1::Chunk& chunk = response.chunk();
  if (chunk.index() >= num_sequences_) {
    if (fault_.empty()) {
      fault_ = absl::StrCat("a chunk of sequence ", chunk.index(), " of ",
                            num_sequences_);
    }
    return false;
  }
  if (chunk.index() >= record_->sequences.size()) {
    record_->sequences.resize(chunk.index() + 1);
  }
  OutputSequence& sequence = record_->sequences[chunk.index()];
  const size_t num_before = sequence.token_ids.size();
  if (fault_.empty() && chunk.token_offset() != num_before) {
    fault_ =
        absl::StrCat(chunk.token_offset() > num_before ? "gap" : "repetition",
                     ": tokens from offset ", chunk.token_offset(), " after ",
                     num_before, " tokens");
    if (num_sequences_ > 1) {
      absl::StrAppend(&fault_, " of sequence ", chunk.index());
    }
  }
  if (chunk.token_ids_size() > 0) {
    record_->arrivals.push_back({now, chunk.token_ids_size(), chunk.index()});
    sequence.token_ids.insert(sequence.token_ids.end(),
                              chunk.token_ids().begin(),
                              chunk.token_ids().end());
  }
  sequence.text += chunk.text();
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
        absl::StrCat("the stream ended after ", record_->num_output_tokens(),
                     " tokens without saying that it is complete");
  } else {
    record_->outcome = RequestOutcome::kCompleted;
  }
}

}  // namespace quire
