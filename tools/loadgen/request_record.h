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
};

struct RequestRecord {
  int64_t idx = 0;     // in the run's order of arrival
  absl::Time arrival;  // when it should have been sent
  absl::Time sent;     // when it was; later if the client held it back
  absl::Time end;
  RequestOutcome outcome = RequestOutcome::kFailed;
  std::string error;  // one line, for kFailed
  int64_t num_prompt_tokens = 0;
  std::vector<TokenArrival> arrivals;  // messages that held tokens
  std::vector<uint32_t> token_ids;
  std::string text;

  int64_t num_output_tokens() const {
    return static_cast<int64_t>(token_ids.size());
  }
};

// Puts one stream into a record and judges it: a stream is complete only if
// it said so, and only if no token was missing or came twice.
//
// Thread-compatible.
class StreamJudge {
 public:
  // Borrows `record`.
  explicit StreamJudge(RequestRecord* record) : record_(record) {}

  // Takes a message that arrived at `now`. Whether the stream is still sound.
  bool Add(const v1::GenerateResponse& response, absl::Time now);

  // The stream ended with `status`. `cancelled`: this client asked for that.
  void Finish(const absl::Status& status, bool cancelled, absl::Time now);

 private:
  RequestRecord* const record_;
  bool is_complete_ = false;
  std::string fault_;
};

}  // namespace quire

#endif  // TOOLS_LOADGEN_REQUEST_RECORD_H_
