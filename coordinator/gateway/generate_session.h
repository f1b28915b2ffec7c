// SPDX-License-Identifier: Apache-2.0
//
// One request, from its fields to its status, whatever carries it.
//
//   validate -> encode -> submit -> (output -> chunk)* -> complete -> status
//
// Four parties act on it at the same time: its carrier (writes done, the client
// gone), the text pool, a router thread with tokens, and whoever cancels or
// drains. At most one write is under way; what comes meanwhile joins the next
// chunk, so a slow reader costs four bytes a token and delays nobody.
#ifndef COORDINATOR_GATEWAY_GENERATE_SESSION_H_
#define COORDINATOR_GATEWAY_GENERATE_SESSION_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/gateway/answer_streams.h"
#include "coordinator/gateway/gateway_context.h"
#include "coordinator/gateway/output_router.h"
#include "coordinator/gateway/sequence_guide.h"
#include "coordinator/gateway/session_table.h"
#include "coordinator/gateway/validation.h"
#include "proto/inference.pb.h"

namespace quire {

// What carries a session's answer to its client. The session calls it under its
// own lock, so it may not call back before it has returned.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;

  // The lane of the router on which writing costs least, if any. Does not
  // change.
  virtual std::optional<size_t> lane() const { return std::nullopt; }
  // Sends one message. `response` stays as it is until it is sent: when this
  // returns true, or when OnWriteDone follows.
  virtual bool Write(const v1::GenerateResponse& response) = 0;
  // Sends the last message and ends the call well.
  virtual void WriteLast(const v1::GenerateResponse& response) = 0;
  // Ends the call. No write is under way.
  virtual void Finish(const absl::Status& status) = 0;
};

// What is asked of a session.
struct SessionInput {
  // Read before Start returns. A text in it is ignored where `encode` is given.
  const v1::GenerateRequest* request = nullptr;
  // Makes the prompt instead of the tokenizer alone. Runs here, or on the text
  // pool if `encode_bytes` are many.
  std::function<absl::StatusOr<std::vector<TokenId>>()> encode;
  size_t encode_bytes = 0;
  std::string prompt_field;  // for errors, where it is not the request's own
  // An unset max_tokens takes what the window leaves, in place of the default.
  bool fills_window = false;
  // Control tokens that the text shows although it skips special tokens.
  std::vector<TokenId> shown_special_tokens;
};

// Thread-safe. Shared by its carrier (until OnDone), the session table and the
// router (each until the call ends) and a job of the text pool.
class GenerateSession final
    : public OutputSink,
      public Session,
      public std::enable_shared_from_this<GenerateSession> {
 public:
  // `number` tells calls apart; `deadline` is by the gateway's clock. `writer`
  // lives until OnDone.
  static std::shared_ptr<GenerateSession> Create(const GatewayContext* gateway,
                                                 uint64_t number,
                                                 absl::Time deadline,
                                                 ResponseWriter* writer);

  // Begins. REQUIRES: this or Refuse is called once.
  void Start(const SessionInput& input);
  // Ends the request before it began.
  void Refuse(const absl::Status& status) { EndWith(status); }

  // Of the carrier: the message that was being written is sent, or `ok` is
  // false and the client is gone.
  void OnWriteDone(bool ok);
  // The client has left, or its deadline has passed.
  void OnCancel();
  // Nothing more will be written: the carrier's share ends.
  void OnDone();

  void OnOutput(SequenceOutput output) override;
  // Masks may take milliseconds, and so may what a long prompt comes to.
  bool is_quick() const override;
  std::optional<size_t> lane() const override { return lane_; }
  void Abort(const absl::Status& status) override;

 private:
  GenerateSession(const GatewayContext* gateway, uint64_t number,
                  absl::Time deadline, ResponseWriter* writer);

  // The way to the engine; each step ends the call itself if it fails.
  absl::Status Validate(const SessionInput& input);
  void EncodeThenSubmit(const SessionInput& input);
  void EncodeAndSubmit();
  absl::Status FitAndSubmit();
  // What the request's rules come to for the engine.
  absl::Status ApplyRules();
  absl::Status MakeGuides(EngineRequest* request) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Status TakeOutput(SequenceOutput output)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells the engine what the sequence may sample after these tokens. A request
  // whose masks are slow has them made on the text pool: the router's threads
  // serve others too.
  absl::Status Guide(int32_t index, absl::Span<const TokenId> tokens)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool has_ended() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return ended_;
  }
  // Needs no lock: a sequence whose mask is being made has no other output.
  absl::Status SendMask(SequenceGuide* guide, RequestKey key, int32_t index,
                        int64_t num_tokens, absl::Span<const TokenId> tokens);
  // A stop string was found in this sequence.
  void StopSequence(int32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Writes what there is to write, if no write is under way.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteComplete() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the call with `status`, after the write under way.
  void End(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndWith(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void StopEngine(FinishReason reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const GatewayContext* const gateway_;
  const uint64_t number_;
  ResponseWriter* const writer_;
  const std::optional<size_t> lane_;  // of the writer, which may go before this
  const absl::Time arrival_;
  const absl::Time deadline_;  // by the gateway's clock

  // Before submission: one thread at a time, no lock.
  ValidatedRequest valid_;
  std::function<absl::StatusOr<std::vector<TokenId>>()> encode_;
  std::string request_id_;
  bool is_in_table_ = false;

  absl::Mutex mutex_;
  std::optional<RequestKey> key_ ABSL_GUARDED_BY(mutex_);
  bool engine_done_ ABSL_GUARDED_BY(mutex_) = false;
  AnswerStreams answer_ ABSL_GUARDED_BY(mutex_);
  // By stream; empty unless the request has a structure. Does not change once
  // the request is submitted, but for the guides themselves.
  std::vector<SequenceGuide> guides_ ABSL_GUARDED_BY(mutex_);
  bool is_slow_ ABSL_GUARDED_BY(mutex_) = false;  // a mask took kSlowMask
  v1::GenerateResponse response_;  // being written while `writing_`
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_GENERATE_SESSION_H_
