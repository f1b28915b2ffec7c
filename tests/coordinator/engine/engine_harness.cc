// SPDX-License-Identifier: Apache-2.0
#include "tests/coordinator/engine/engine_harness.h"

#include <utility>

#include "common/digest.h"
#include "glog/logging.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

std::unique_ptr<EngineCore> MustCreate(const EngineOptions& options) {
  auto core = EngineCore::Create(options);
  CHECK(core.ok()) << core.status();
  return *std::move(core);
}

SimulatedGroupOptions Sized(SimulatedGroupOptions group,
                            const EngineOptions& options) {
  group.block_size = options.block_size;
  group.max_num_seqs = options.max_num_seqs;
  group.sliding_window = options.sliding_window;
  group.has_rows = options.kv_manager == "virtual";
  return group;
}

}  // namespace

EngineHarness::EngineHarness(const EngineOptions& options, int32_t num_blocks,
                             bool ready)
    : core_(MustCreate(options)),
      intake_(options),
      workers_(Sized({.num_blocks = num_blocks}, options)) {
  if (ready) BeginGroup();
}

EngineHarness::EngineHarness(const EngineOptions& options,
                             SimulatedGroupOptions group)
    : core_(MustCreate(options)),
      intake_(options),
      workers_(Sized(group, options)) {
  BeginGroup();
}

void EngineHarness::BeginGroup() {
  const GroupReady group = workers_.Begin(++group_epoch_);
  const absl::Status status = core_->OnGroupReady(group, now_);
  CHECK(status.ok()) << status;
  intake_.Open(group.num_blocks, group.block_size);
  TakeEffects();
}

void EngineHarness::LoseGroup(const std::string& why) {
  core_->OnGroupLost(Epoch(group_epoch_), absl::UnavailableError(why), now_);
  while (workers_.TakeResult().has_value()) {
  }
  TakeEffects();
}

absl::StatusOr<RequestKey> EngineHarness::Submit(EngineRequest request) {
  absl::StatusOr<RequestKey> key = intake_.Accept(request);
  if (key.ok()) core_->AddRequest(*key, std::move(request), now_);
  TakeEffects();
  return key;
}

RequestKey EngineHarness::MustSubmit(EngineRequest request) {
  const auto key = Submit(std::move(request));
  CHECK(key.ok()) << key.status();
  return *key;
}

void EngineHarness::Finish(RequestKey key, FinishReason reason) {
  core_->FinishRequest(key, reason, now_);
  TakeEffects();
}

int EngineHarness::Plan() {
  int num_plans = 0;
  while (const StepPlan* plan = core_->Plan(now_)) {
    workers_.Send(*plan);
    if (keep_plans_) plans_.push_back(*plan);
    ++num_plans;
  }
  TakeEffects();
  return num_plans;
}

bool EngineHarness::Deliver() {
  std::optional<StepResult> result = workers_.TakeResult();
  if (!result.has_value()) return false;
  core_->OnStepResult(*std::move(result), now_);
  TakeEffects();
  return true;
}

int64_t EngineHarness::RunUntilIdle(int64_t max_steps) {
  int64_t num_steps = 0;
  while (num_steps < max_steps) {
    Plan();
    if (!Deliver()) break;
    ++num_steps;
  }
  return num_steps;
}

void EngineHarness::TakeEffects() {
  EngineEffects effects = core_->TakeEffects();
  intake_.Left(effects.num_left_queue, effects.num_tokens_left_queue);
  for (const RequestEnd& end : effects.ended) intake_.Ended(end.request_id);
  for (SequenceOutput& output : effects.outputs) {
    if (listener_ != nullptr) listener_(output);
    HeardStream& stream = streams_[{output.request, output.index}];
    // An error is the request's: its first sequence may have ended already.
    if (output.status.ok()) {
      EXPECT_EQ(stream.num_last_words, 0) << "news after the last word";
      EXPECT_EQ(output.token_offset, stream.tokens.size());
    }
    stream.tokens.insert(stream.tokens.end(), output.tokens.begin(),
                         output.tokens.end());
    stream.num_logprobs += static_cast<int32_t>(output.logprobs.size());
    stream.num_cached_tokens += output.num_cached_tokens;
    if (output.finish_reason != FinishReason::kNone || !output.status.ok()) {
      ++stream.num_last_words;
      stream.finish_reason = output.finish_reason;
      stream.stop_token_id = output.stop_token_id;
      stream.status = output.status;
    }
  }
}

void EngineHarness::HearOn(const EngineHarness& other, RequestKey key) {
  for (const auto& [stream_key, stream] : other.streams_) {
    if (stream_key.first == key) streams_[stream_key] = stream;
  }
}

void EngineHarness::ExpectClean() {
  EXPECT_TRUE(workers_.status().ok()) << workers_.status();
  const absl::Status books = core_->CheckInvariants();
  EXPECT_TRUE(books.ok()) << books;
  EXPECT_TRUE(core_->is_idle());
  EXPECT_EQ(workers_.num_live_slots(), 0);
  EXPECT_EQ(intake_.num_accepted(), 0);
  EXPECT_EQ(intake_.num_queued(), 0);
  const EngineStats stats = core_->Stats();
  EXPECT_EQ(stats.num_free_blocks + stats.num_cached_blocks, stats.num_blocks);
  EXPECT_EQ(core_->TakeMetrics().counters.num_refused_growths, 0);
}

EngineOptions SmallEngineOptions() {
  EngineOptions options;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 64;
  options.max_model_len = 256;
  options.block_size = 4;
  return options;
}

std::vector<TokenId> ExpectedStream(const EngineRequest& request,
                                    int32_t index) {
  SamplingParams sampling = request.sampling;
  sampling.slot.seed = SequenceSeed(sampling.slot.seed, index);
  return SimulatedStream(request.prompt, sampling);
}

EngineRequest MakeRequest(const std::string& id, int32_t num_prompt_tokens,
                          int32_t max_tokens, uint64_t seed) {
  EngineRequest request;
  request.request_id = id;
  for (int32_t i = 0; i < num_prompt_tokens; ++i) {
    request.prompt.push_back(static_cast<TokenId>(MixBits(seed * 1000003 + i) %
                                                  kSimulatedVocabSize));
  }
  request.sampling.max_tokens = max_tokens;
  request.sampling.slot.seed = seed;
  return request;
}

EngineRequest MakeGroup(const std::string& id, int32_t num_prompt_tokens,
                        int32_t max_tokens, int32_t n, uint64_t seed) {
  EngineRequest request = MakeRequest(id, num_prompt_tokens, max_tokens, seed);
  request.sampling.n = n;
  request.sampling.best_of = n;
  return request;
}

void AddStops(int32_t one_in, EngineRequest* request) {
  for (TokenId id = 3; id < kSimulatedVocabSize; id += one_in) {
    request->sampling.stop_token_ids.push_back(id);
  }
}

void ExpectAll(EngineHarness& engine, RequestKey key,
               const EngineRequest& request) {
  for (int32_t index = 0; index < request.sampling.n; ++index) {
    const HeardStream& heard = engine.Heard(key, index);
    EXPECT_EQ(heard.tokens, ExpectedStream(request, index))
        << request.request_id << " sequence " << index;
    EXPECT_EQ(heard.num_last_words, 1);
  }
}

}  // namespace quire
