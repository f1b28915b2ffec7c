// SPDX-License-Identifier: Apache-2.0
//
// An EngineCore, an Intake and a simulated worker group, driven by hand.
#ifndef TESTS_COORDINATOR_ENGINE_ENGINE_HARNESS_H_
#define TESTS_COORDINATOR_ENGINE_ENGINE_HARNESS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/engine_options.h"
#include "coordinator/engine/intake.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {

// What a client has heard of its request.
struct HeardStream {
  std::vector<TokenId> tokens;
  FinishReason finish_reason = FinishReason::kNone;
  TokenId stop_token_id = -1;
  absl::Status status;
  int32_t num_last_words = 0;  // finish reasons and errors
  int32_t num_logprobs = 0;
  int32_t num_cached_tokens = 0;
};

class EngineHarness {
 public:
  // The group is ready at once unless `ready` is false.
  EngineHarness(const EngineOptions& options, int32_t num_blocks,
                bool ready = true);
  // With host blocks and rates; the sizes are those of `options`.
  EngineHarness(const EngineOptions& options, SimulatedGroupOptions group);

  RequestKey MustSubmit(EngineRequest request);
  absl::StatusOr<RequestKey> Submit(EngineRequest request);
  void Finish(RequestKey key, FinishReason reason);

  // Plans as far ahead as the engine wants. Returns how many plans.
  int Plan();
  // Gives the engine the oldest result. False: none was waiting.
  bool Deliver();
  // Plans and delivers until nothing is left, at most `max_steps` results.
  // Returns the number of results.
  int64_t RunUntilIdle(int64_t max_steps = 1000000);

  void LoseGroup(const std::string& why);
  void BeginGroup();

  EngineCore& core() { return *core_; }
  SimulatedWorkerGroup& workers() { return workers_; }
  Intake& intake() { return intake_; }
  const HeardStream& Heard(RequestKey key, int32_t index = 0) {
    return streams_[{key, index}];
  }
  // This engine goes on with a request that the other one had.
  void HearOn(const EngineHarness& other, RequestKey key);
  absl::Time now() const { return now_; }
  void Advance(absl::Duration duration) { now_ += duration; }
  const std::vector<StepPlan>& plans() const { return plans_; }
  void KeepPlans() { keep_plans_ = true; }
  // Hears every output before its stream does.
  void Listen(std::function<void(const SequenceOutput&)> listener) {
    listener_ = std::move(listener);
  }

  // Nothing is held anywhere and no rule was broken.
  void ExpectClean();

 private:
  void TakeEffects();

  std::unique_ptr<EngineCore> core_;
  Intake intake_;
  SimulatedWorkerGroup workers_;
  uint64_t group_epoch_ = 0;
  absl::Time now_ = absl::UnixEpoch();
  bool keep_plans_ = false;
  std::function<void(const SequenceOutput&)> listener_;
  std::vector<StepPlan> plans_;
  std::map<std::pair<RequestKey, int32_t>, HeardStream> streams_;
};

// 8 sequences of 256 tokens, steps of 64 tokens, blocks of 4.
EngineOptions SmallEngineOptions();

// What the index-th sequence of the request must generate.
std::vector<TokenId> ExpectedStream(const EngineRequest& request,
                                    int32_t index = 0);

// `num_prompt_tokens` tokens that follow from `seed`; no stop tokens.
EngineRequest MakeRequest(const std::string& id, int32_t num_prompt_tokens,
                          int32_t max_tokens, uint64_t seed = 1);
// The same of `n` sequences.
EngineRequest MakeGroup(const std::string& id, int32_t num_prompt_tokens,
                        int32_t max_tokens, int32_t n, uint64_t seed = 1);
// About one token in `one_in` ends a sequence.
void AddStops(int32_t one_in, EngineRequest* request);

// Each sequence's stream has its tokens and ended once.
void ExpectAll(EngineHarness& engine, RequestKey key,
               const EngineRequest& request);

}  // namespace quire

#endif  // TESTS_COORDINATOR_ENGINE_ENGINE_HARNESS_H_
