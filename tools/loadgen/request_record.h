// SPDX-License-Identifier: Apache-2.0
//
// What happened to one request of a run.
#ifndef TOOLS_LOADGEN_REQUEST_RECORD_H_
#define TOOLS_LOADGEN_REQUEST_RECORD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace quire {

namespace v1 {
class GenerateResponse;
}  // namespace v1

enum class RequestOutcome {
  kFailed,
  kCompleted,
  kCancelled,  // by this client's own plan
};

// Tokens that arrived in one message.
struct TokenArrival {
  absl::Time time;
  int64_t num_tokens = 0;
  uint32_t index = 0;  // of their sequence
};

// One of the sequences that a request asked for.
struct OutputSequence {
  std::vector<uint32_t> token_ids = {};
  std::string text = {};
};

struct RequestRecord {
  int64_t idx = 0;     // in the run's order of arrival
  absl::Time arrival;  // when it should have been sent
  absl::Time sent;     // when it was; later if the client held it back
  absl::Time end;
  RequestOutcome outcome = RequestOutcome::kFailed;
  std::string error;  // one line, for kFailed
  int64_t num_prompt_tokens = 0;
  std::vector<TokenArrival> arrivals;     // messages that held tokens
  std::vector<OutputSequence> sequences;  // by index, as far as heard of

  // Of all sequences.
  int64_t num_output_tokens() const {
    int64_t num_tokens = 0;
    for (const OutputSequence& sequence : sequences) {
      num_tokens += static_cast<int64_t>(sequence.token_ids.size());
    }
    return num_tokens;
  }
};

// Puts one stream into a record and judges it: a stream is complete only if
// it said so, and only if no token of any sequence was missing or came twice.
//
// Thread-compatible.
class StreamJudge {
 public:
  // Borrows `record`. The request asked for `num_sequences`.
  explicit StreamJudge(RequestRecord* record, uint32_t num_sequences = 1)
      : record_(record), num_sequences_(num_sequences) {}

  // Takes a message that arrived at `now`. Whether the stream is still sound.
  bool Add(const v1::GenerateResponse& response, absl::Time now);

  // The stream ended with `status`. `cancelled`: this client asked for that.
  void Finish(const absl::Status& status, bool cancelled, absl::Time now);

 private:
  void Complete(const v1::GenerateResponse& response);

  RequestRecord* const record_;
  const uint32_t num_sequences_;
  bool is_complete_ = false;
  std::string fault_;
};

}  // namespace quire

#endif  // TOOLS_LOADGEN_REQUEST_RECORD_H_
