// SPDX-License-Identifier: Apache-2.0
//
// What a gateway may ask of the engine, and what it hears back. Everything the
// two share is here, so a gateway can live in another process. The engine deals
// in token ids; text, stop strings and sockets are the gateway's.
#ifndef COORDINATOR_ENGINE_ENGINE_CLIENT_H_
#define COORDINATOR_ENGINE_ENGINE_CLIENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "common/step_plan.h"
#include "coordinator/engine/timeline.h"

namespace quire {

// The tokens that a sequence may sample next; see SlotMask.
using TokenMask = std::vector<uint32_t>;

struct EngineRequest {
  std::string request_id;       // unique among running requests
  std::vector<TokenId> prompt;  // not empty, every id < vocabulary size
  SamplingParams sampling;      // validated, defaults applied, seed chosen
  int32_t priority = 0;         // the lower goes first
  std::string tenant;           // who is charged; "" is a tenant too
  // Whether it finds prefixes of earlier requests and leaves its own; only
  // those of equal `cache_salt`, which is the tenant's unless it was given.
  bool use_prefix_cache = true;
  std::string cache_salt;
  absl::Time deadline = absl::InfiniteFuture();
  // If sampling.slot.needs_mask: of every sequence's first token. The masks of
  // those that follow are the client's to set.
  TokenMask first_mask;
};

enum class FinishReason { kNone, kStop, kLength, kCancelled };

// News of one sequence.
struct SequenceOutput {
  RequestKey request;
  int32_t index = 0;                       // of the request's sequences, [0, n)
  int64_t token_offset = 0;                // output tokens before these
  absl::InlinedVector<TokenId, 4> tokens;  // one a step: no heap
  std::vector<SampledLogprobs> logprobs;   // one per token, if asked for;
                                           // sample_idx counts within `tokens`
  FinishReason finish_reason = FinishReason::kNone;
  TokenId stop_token_id = -1;  // >= 0: the token that stopped it
  // Of the prompt, found computed. In a sequence's first output only.
  int32_t num_cached_tokens = 0;
  // Of the request's prompt tokens, if asked for, in outputs of sequence 0 that
  // hold nothing else and come before all other outputs: tokens 1, 2 ... follow
  // on without gap.
  std::vector<SampledLogprobs> prompt_logprobs;
  // Not OK: the request failed and this is its last word. Unavailable (workers
  // lost, draining), DeadlineExceeded, Cancelled, Internal.
  absl::Status status;
};

// Hears of every step's outputs, all of a step in one call. Called on the
// engine thread: must hand over and return.
class OutputListener {
 public:
  virtual ~OutputListener() = default;
  virtual void OnOutputs(std::vector<SequenceOutput> outputs) = 0;
};

// Facts that do not change while the engine is ready.
struct EngineInfo {
  int32_t block_size = 0;  // tokens
  int32_t num_blocks = 0;
  int32_t max_model_len = 0;  // tokens
  int32_t max_num_seqs = 0;
  int32_t max_num_batched_tokens = 0;
};

// A consistent glance, at most one step old.
struct EngineStats {
  int32_t num_running = 0;  // sequence groups holding blocks
  int32_t num_waiting = 0;
  int32_t num_blocks = 0;
  int32_t num_free_blocks = 0;
  int32_t num_cached_blocks = 0;  // hold only reusable prefixes
  int32_t num_host_blocks = 0;
  int32_t num_free_host_blocks = 0;
  int32_t num_host_prefix_blocks = 0;  // hold nothing but prefixes
  int64_t num_preemptions = 0;
  int64_t num_finished = 0;
  int64_t num_generated_tokens = 0;
  int64_t num_prompt_tokens = 0;
  // Accepted and never scheduled, at this very moment.
  int32_t num_queued = 0;
  int64_t num_queued_tokens = 0;  // of their prompts
  // As measured; 0: not yet.
  double prefill_tokens_per_s = 0;
  double decode_step_us = 0;  // with few sequences
  StepId last_step;
  bool ready = false;
};

// Thread-safe.
class EngineClient {
 public:
  virtual ~EngineClient() = default;

  // Queues a request; outputs follow on the OutputListener under the returned
  // key, possibly before this returns. ResourceExhausted when the queue is
  // full; Unavailable when no worker group is ready or the engine drains;
  // AlreadyExists when request_id is running; InvalidArgument when it cannot
  // fit the pool or the window even alone.
  virtual absl::StatusOr<RequestKey> Submit(EngineRequest request) = 0;

  // Ends a request early: the client left (kCancelled; no output follows) or a
  // stop string was found (kStop; same). Unknown keys are ignored: the request
  // may just have finished.
  virtual void Finish(RequestKey request, FinishReason reason) = 0;

  // Ends one sequence of a request early, because a stop string was found in
  // it; no output of it follows, and that of its siblings goes on. The last one
  // ends the request (kStop). Unknown and ended ones are ignored. REQUIRES: its
  // outputs are not withheld (best_of > n) and it is no beam.
  virtual void FinishSequence(RequestKey request, int32_t index) = 0;

  // What a sequence whose request needs masks may sample after its first
  // `num_outputs` output tokens, which its outputs have told; until then it
  // waits. Ignored if the sequence has ended or has other outputs by now.
  // REQUIRES: `mask` allows a token.
  virtual void SetMask(RequestKey request, int32_t index, int64_t num_outputs,
                       TokenMask mask) = 0;

  // The key of a running request. NotFound if there is none.
  virtual absl::StatusOr<RequestKey> Find(const std::string& request_id) = 0;

  // Why a request has waited: one that runs, or one of the last to end.
  // NotFound for others; Unavailable if the engine has stopped. Waits for the
  // engine, a step at most.
  virtual absl::StatusOr<Timeline> Explain(const std::string& request_id) = 0;

  virtual EngineInfo Info() const = 0;
  virtual EngineStats Stats() const = 0;
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_ENGINE_CLIENT_H_
