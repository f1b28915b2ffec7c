// SPDX-License-Identifier: Apache-2.0
//
// One sequence's way from token ids to what its client reads: decodes text,
// looks for stop strings, and gathers everything that has come since the last
// chunk was taken into the next one.
#ifndef COORDINATOR_GATEWAY_SEQUENCE_STREAM_H_
#define COORDINATOR_GATEWAY_SEQUENCE_STREAM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "common/text/stop_string_matcher.h"
#include "common/text/stream_decoder.h"
#include "common/text/tokenizer.h"
#include "coordinator/engine/engine_client.h"
#include "proto/inference.pb.h"

namespace quire {

// Thread-compatible.
class SequenceStream {
 public:
  // InvalidArgument when a stop string is not one. `tokenizer` is borrowed.
  // `index` is the sequence's in its request. `shown_special_tokens` are
  // spelled out in the text even where special tokens are skipped.
  static absl::StatusOr<SequenceStream> Create(
      const Tokenizer* tokenizer, const SamplingParams& sampling,
      int32_t index = 0, std::vector<TokenId> shown_special_tokens = {});

  // Takes news; ignored once the sequence has ended. Tokens after the one that
  // completed a stop string are dropped. Internal when tokens are missing.
  absl::Status Append(const SequenceOutput& output);

  // Of the tokens taken so far, as far as the engine told it.
  double cumulative_logprob() const { return cumulative_logprob_; }
  // Its index from the next chunk on.
  void set_index(int32_t index) { index_ = index; }

  // Whether there is anything to send.
  bool has_chunk() const { return has_chunk_; }
  // The chunk, leaving an empty one.
  v1::Chunk TakeChunk();

  bool is_finished() const { return finish_reason_ != FinishReason::kNone; }
  FinishReason finish_reason() const { return finish_reason_; }
  // A stop string ended it: the engine does not know yet.
  bool stopped_by_string() const { return matcher_.matched(); }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  SequenceStream(const Tokenizer* tokenizer, const SamplingParams& sampling,
                 int32_t index, StopStringMatcher matcher,
                 std::vector<TokenId> shown_special_tokens);

  // The text that the token completes.
  absl::StatusOr<std::string> Decode(TokenId token);
  void AppendToken(const SequenceOutput& output, size_t token_idx);
  void AppendText(const StopStringMatcher::Output& output);
  void Finish(FinishReason reason);

  const Tokenizer* tokenizer_;
  int32_t index_;
  bool skip_special_tokens_;
  std::vector<TokenId> shown_special_tokens_;
  StreamDecoder decoder_;
  StopStringMatcher matcher_;
  bool wants_logprobs_;
  bool include_stop_;
  int64_t num_tokens_ = 0;  // taken so far
  double cumulative_logprob_ = 0;
  FinishReason finish_reason_ = FinishReason::kNone;
  v1::Chunk chunk_;
  bool has_chunk_ = false;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_SEQUENCE_STREAM_H_
