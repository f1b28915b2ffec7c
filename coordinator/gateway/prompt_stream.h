// SPDX-License-Identifier: Apache-2.0
//
// A prompt's way back to its client: its tokens, their text, how likely they
// were.
#ifndef COORDINATOR_GATEWAY_PROMPT_STREAM_H_
#define COORDINATOR_GATEWAY_PROMPT_STREAM_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "common/text/stream_decoder.h"
#include "common/text/tokenizer.h"
#include "proto/inference.pb.h"

namespace quire {

// What a client wants to hear of its prompt.
struct PromptWishes {
  bool text = false;
  bool logprobs = false;
  bool skip_special_tokens = true;
};

// Thread-compatible.
class PromptStream {
 public:
  // `tokenizer` is borrowed. REQUIRES: the prompt is not empty.
  PromptStream(const Tokenizer* tokenizer, std::vector<TokenId> prompt,
               const PromptWishes& wishes);

  // Log probabilities of the tokens that follow those before. Internal if there
  // are more than tokens.
  absl::Status Append(std::vector<SampledLogprobs> logprobs);

  // Whether there is something to send: a token, with its log probability if
  // that is wished for.
  bool has_chunk() const { return num_sent_ < num_known(); }
  // Some of it, at most kMaxChunkTokens.
  absl::StatusOr<v1::Prompt> TakeChunk();

  static constexpr int64_t kMaxChunkTokens = 1024;

 private:
  int64_t num_known() const;

  const std::vector<TokenId> prompt_;
  const PromptWishes wishes_;
  StreamDecoder decoder_;
  std::vector<SampledLogprobs> logprobs_;  // of tokens 1, 2 ...
  int64_t num_sent_ = 0;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_PROMPT_STREAM_H_
