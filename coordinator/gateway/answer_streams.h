// SPDX-License-Identifier: Apache-2.0
//
// What a request's client is to hear, in the order in which it is written: of
// its prompt, if it wants to, then chunks of its sequences in turn, and at last
// what all of it came to.
#ifndef COORDINATOR_GATEWAY_ANSWER_STREAMS_H_
#define COORDINATOR_GATEWAY_ANSWER_STREAMS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/metrics/request_metrics.h"
#include "common/sampling_params.h"
#include "common/step_plan.h"
#include "common/text/tokenizer.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/gateway/prompt_stream.h"
#include "coordinator/gateway/sequence_stream.h"
#include "proto/inference.pb.h"

namespace quire {

// Whether the client wants to hear of its prompt.
bool TellsPrompt(const SamplingParams& sampling);

// Thread-compatible.
class AnswerStreams {
 public:
  // `metrics` hears when tokens of the answer come, the first since `arrival`.
  // All borrowed.
  AnswerStreams(const Tokenizer* tokenizer, const Clock* clock,
                RequestMetrics* metrics, absl::Time arrival);

  // Makes a stream for every sequence that the engine will tell of; none are
  // there before. InvalidArgument as SequenceStream::Create.
  absl::Status Open(const SamplingParams& sampling,
                    const std::vector<TokenId>& shown_special_tokens);
  // As it goes to the engine. REQUIRES: it is not empty.
  void SetPrompt(const SamplingParams& sampling,
                 const std::vector<TokenId>& prompt);

  // Takes log probabilities of the prompt; see PromptStream. Ignored where the
  // client does not want to hear of it.
  absl::Status AppendPrompt(std::vector<SampledLogprobs> logprobs);
  // Takes news of a sequence; see SequenceStream.
  // REQUIRES: output.index is in [0, num_streams()).
  absl::Status Append(const SequenceOutput& output);

  int32_t num_streams() const { return static_cast<int32_t>(streams_.size()); }
  const SequenceStream& stream(int32_t index) const { return streams_[index]; }
  // Whether no stream has more to come.
  bool is_finished() const;

  // Takes what is to be written next into `response`. False: nothing is there.
  absl::StatusOr<bool> TakeNext(v1::GenerateResponse* response);

  v1::Usage usage() const;
  // Why the first sequence ended; kNone if it has not.
  FinishReason finish_reason() const;
  // Fills in how many tokens there were, and the time that they took.
  void Describe(RequestMetrics::Outcome* outcome) const;

 private:
  // So many tokens of the answer came, of that stream.
  void NoteTokens(size_t stream, int64_t num_tokens);
  // All streams have ended: the best of them are the answer.
  void TakeBest();

  const Tokenizer* const tokenizer_;
  const Clock* const clock_;
  RequestMetrics* const metrics_;
  const absl::Time arrival_;

  // Of all sequences that the engine tells of.
  std::vector<SequenceStream> streams_;
  std::optional<PromptStream> prompt_;  // if the client wants to hear of it
  int32_t num_answers_ = 0;             // n
  // [n], into streams_: those that are written. Empty until it is known which
  // are the best (best_streams.h).
  std::vector<size_t> answer_;
  size_t next_ = 0;         // into answer_, to be written from
  int64_t num_tokens_ = 0;  // of the answer
  int64_t num_prompt_tokens_ = 0;
  int32_t num_cached_tokens_ = 0;
  absl::Time first_token_;  // when it came
  absl::Time last_token_;
  // [num_streams()], when each one's last tokens of the answer came.
  std::vector<absl::Time> last_tokens_;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_ANSWER_STREAMS_H_
