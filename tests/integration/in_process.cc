// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/in_process.h"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "coordinator/engine/engine_loop.h"
#include "coordinator/recording/recorder.h"
#include "coordinator/routing/group_router.h"
#include "gtest/gtest.h"
#include "tests/integration/local_worker_group.h"

namespace quire {
namespace {

// Collects streams and waits for the last.
class Collector final : public OutputListener {
 public:
  // Requests whose index `masked` has wait for what `mask_of` says. Borrowed.
  void AnswerMasks(EngineClient* engine, const MaskOf* mask_of,
                   std::set<int32_t> masked) {
    absl::MutexLock lock(&mutex_);
    engine_ = engine;
    mask_of_ = mask_of;
    masked_ = std::move(masked);
  }

  void OnOutputs(std::vector<SequenceOutput> outputs) override {
    absl::MutexLock lock(&mutex_);
    for (SequenceOutput& output : outputs) {
      std::vector<HeardSequence>& sequences = requests_[output.request.value()];
      if (output.index >= static_cast<int32_t>(sequences.size())) {
        sequences.resize(output.index + 1);
      }
      HeardSequence& heard = sequences[output.index];
      EXPECT_EQ(output.token_offset, static_cast<int64_t>(heard.tokens.size()));
      heard.tokens.insert(heard.tokens.end(), output.tokens.begin(),
                          output.tokens.end());
      for (const SampledLogprobs& logprobs : output.logprobs) {
        heard.logprobs.push_back(logprobs.logprob);
        heard.scores.push_back(logprobs);
      }
      std::vector<SampledLogprobs>& prompt = prompts_[output.request.value()];
      prompt.insert(prompt.end(), output.prompt_logprobs.begin(),
                    output.prompt_logprobs.end());
      Answer(output, heard);
      if (output.finish_reason != FinishReason::kNone) {
        heard.finish_reason = output.finish_reason;
        ++num_finished_;
      }
      has_failed_ |= !output.status.ok();
      if (counted_ != nullptr && counted_(output.request)) {
        num_tokens_ += static_cast<int64_t>(output.tokens.size());
      }
    }
    if (on_token_ != nullptr && num_tokens_ >= on_token_at_) {
      std::exchange(on_token_, nullptr)();
    }
  }

  // Calls `on_token` once, when so many tokens of the requests that are
  // `counted` have been heard.
  void CallAt(int64_t num_tokens, std::function<bool(RequestKey)> counted,
              std::function<void()> on_token) {
    absl::MutexLock lock(&mutex_);
    on_token_at_ = num_tokens;
    counted_ = std::move(counted);
    on_token_ = std::move(on_token);
  }

  void Await(int64_t num_sequences) {
    absl::MutexLock lock(&mutex_);
    const auto done = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return has_failed_ || num_finished_ >= num_sequences;
    };
    mutex_.Await(absl::Condition(&done));
  }

  void Take(const std::vector<RequestKey>& keys, InProcessRun* run) {
    absl::MutexLock lock(&mutex_);
    for (RequestKey key : keys) {
      run->sequences.push_back(requests_[key.value()]);
      run->prompt_scores.push_back(prompts_[key.value()]);
      if (run->sequences.back().empty()) run->sequences.back().emplace_back();
      run->streams.push_back(run->sequences.back().front().tokens);
      run->finish_reasons.push_back(
          run->sequences.back().front().finish_reason);
    }
  }

 private:
  void Answer(const SequenceOutput& output, const HeardSequence& heard)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // Keys count from 1, in the order of the requests.
    const auto request_idx = static_cast<int32_t>(output.request.value() - 1);
    if (masked_.count(request_idx) == 0 || output.tokens.empty() ||
        output.finish_reason != FinishReason::kNone) {
      return;
    }
    engine_->SetMask(output.request, output.index,
                     static_cast<int64_t>(heard.tokens.size()),
                     (*mask_of_)(request_idx, output.index, heard.tokens));
  }

  absl::Mutex mutex_;
  EngineClient* engine_ ABSL_GUARDED_BY(mutex_) = nullptr;
  const MaskOf* mask_of_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::set<int32_t> masked_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, std::vector<SampledLogprobs>> prompts_
      ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, std::vector<HeardSequence>> requests_
      ABSL_GUARDED_BY(mutex_);
  int64_t num_finished_ ABSL_GUARDED_BY(mutex_) = 0;
  bool has_failed_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t num_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t on_token_at_ ABSL_GUARDED_BY(mutex_) = 0;
  std::function<bool(RequestKey)> counted_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> on_token_ ABSL_GUARDED_BY(mutex_);
};

EngineOptions EngineOptionsOf(const InProcessSetting& setting) {
  EngineOptions options;
  options.max_num_seqs = setting.max_num_seqs;
  options.max_num_batched_tokens = setting.max_num_batched_tokens;
  options.max_model_len = setting.max_model_len;
  options.block_size = setting.block_size;
  options.sliding_window = setting.sliding_window;
  options.run_ahead_depth = setting.run_ahead_depth;
  options.kv_manager = setting.kv_manager;
  options.scheduling_policy = setting.scheduling_policy;
  options.forced_preemption_period = setting.forced_preemption_period;
  options.preemption_mode = setting.preemption_mode;
  options.enable_prefix_caching = setting.enable_prefix_caching;
  options.sparse_pages = setting.sparse_pages;
  options.demote_prefixes = setting.demote_prefixes;
  return options;
}

LocalWorkerGroupOptions GroupOptionsOf(const InProcessSetting& setting) {
  LocalWorkerGroupOptions options;
  options.model = setting.model;
  options.dtype = setting.dtype;
  options.tensor_parallel_size = setting.tensor_parallel_size;
  options.limits.max_num_batched_tokens = setting.max_num_batched_tokens;
  options.limits.max_num_seqs = setting.max_num_seqs;
  options.limits.max_model_len = setting.max_model_len;
  options.limits.sparse_pages = setting.sparse_pages;
  options.block_size = setting.block_size;
  options.num_blocks = setting.num_blocks;
  options.num_host_blocks = setting.num_host_blocks;
  options.virtual_page_bytes = setting.virtual_page_bytes;
  return options;
}

// The way to a group's workers, on which plans wait while it is closed.
// Thread-safe.
class Gate final : public Dispatcher {
 public:
  explicit Gate(Dispatcher* workers) : workers_(workers) {}

  void Close() {
    absl::MutexLock lock(&mutex_);
    is_open_ = false;
  }
  void Open() {
    absl::MutexLock lock(&mutex_);
    is_open_ = true;
    for (const StepPlan& plan : waiting_) workers_->Send(plan);
    waiting_.clear();
  }
  void Send(const StepPlan& plan) override {
    absl::MutexLock lock(&mutex_);
    if (is_open_) {
      workers_->Send(plan);
    } else {
      waiting_.push_back(plan);
    }
  }

 private:
  Dispatcher* const workers_;
  absl::Mutex mutex_;
  bool is_open_ ABSL_GUARDED_BY(mutex_) = true;
  std::vector<StepPlan> waiting_ ABSL_GUARDED_BY(mutex_);
};

// Engines and their workers, and what requests are given to.
struct Groups {
  // Stops the engines before anything goes.
  ~Groups() {
    for (const auto& engine : engines) engine->Stop();
  }
  EngineClient* client() {
    if (router != nullptr) return router.get();
    return engines.front().get();
  }

  std::unique_ptr<GroupRouter> router;  // null for one group
  std::vector<std::unique_ptr<EngineLoop>> engines;
  std::vector<std::unique_ptr<LocalWorkerGroup>> workers;
  std::vector<std::unique_ptr<Gate>> gates;  // by group
};

absl::Status Begin(const InProcessSetting& setting, OutputListener* listener,
                   Clock* clock, Recorder* recorder, Groups* groups) {
  const EngineOptions options = EngineOptionsOf(setting);
  if (setting.num_groups > 1) {
    groups->router = std::make_unique<GroupRouter>(options, setting.num_groups,
                                                   setting.routing);
  }
  std::vector<EngineLoop*> engines;
  for (int32_t g = 0; g < setting.num_groups; ++g) {
    EngineSeat seat;
    if (groups->router != nullptr) seat = groups->router->seat(g);
    QUIRE_ASSIGN_OR_RETURN(std::unique_ptr<EngineLoop> engine,
                           EngineLoop::Create(options, listener, clock, seat));
    engines.push_back(engine.get());
    groups->engines.push_back(std::move(engine));
    QUIRE_ASSIGN_OR_RETURN(std::unique_ptr<LocalWorkerGroup> workers,
                           LocalWorkerGroup::Create(GroupOptionsOf(setting),
                                                    engines.back(), clock));
    groups->workers.push_back(std::move(workers));
    groups->gates.push_back(
        std::make_unique<Gate>(groups->workers.back().get()));
  }
  if (groups->router != nullptr) groups->router->SetEngines(engines);
  if (recorder != nullptr) engines[0]->Observe(recorder);
  for (int32_t g = 0; g < setting.num_groups; ++g) {
    engines[g]->Start(groups->gates[g].get());
    GroupReady ready = groups->workers[g]->ready();
    ready.swap_blocks_per_second = setting.swap_blocks_per_second;
    ready.prefill_tokens_per_second = setting.prefill_tokens_per_second;
    engines[g]->OnGroupReady(ready);
    EXPECT_TRUE(engines[g]->AwaitReady(absl::InfiniteFuture()));
  }
  return absl::OkStatus();
}

// Adds up what the engines counted, and looks for blocks that are missing.
void End(const InProcessSetting& setting, Groups* groups, InProcessRun* run) {
  for (int32_t g = 0; g < setting.num_groups; ++g) {
    EngineLoop* engine = groups->engines[g].get();
    engine->Drain(absl::InfiniteFuture());
    const EngineStats stats = engine->Stats();
    EXPECT_EQ(stats.num_free_blocks + stats.num_cached_blocks,
              g == setting.lost_group ? 0 : setting.num_blocks);
    EXPECT_EQ(stats.num_running + stats.num_waiting, 0);
    run->num_finished.push_back(stats.num_finished);
    run->num_preemptions += stats.num_preemptions;
    const EngineCounters counters = engine->TakeMetrics().counters;
    run->num_cache_hit_tokens += counters.num_cache_hit_tokens;
    run->num_host_hit_tokens += counters.num_host_hit_tokens;
    run->num_swapped_blocks +=
        counters.num_swapped_out_blocks + counters.num_swapped_in_blocks;
    run->num_adopted += counters.num_adopted;
  }
}

}  // namespace

InProcessRun RunInProcess(const InProcessSetting& setting,
                          std::vector<EngineRequest> requests,
                          const MaskOf& mask_of) {
  InProcessRun run;
  RealClock clock;
  Collector collector;
  std::unique_ptr<Recorder> recorder;
  if (!setting.record.empty()) {
    auto opened = Recorder::Open(setting.record, EngineOptionsOf(setting));
    EXPECT_TRUE(opened.ok()) << opened.status();
    if (!opened.ok()) return run;
    recorder = *std::move(opened);
  }
  Groups groups;
  const absl::Status begun =
      Begin(setting, &collector, &clock, recorder.get(), &groups);
  EXPECT_TRUE(begun.ok()) << begun;
  if (!begun.ok()) return run;
  EngineClient* client = groups.client();
  if (setting.lost_group >= 0) {
    collector.CallAt(
        setting.lost_at_token,
        [&](RequestKey key) {  // engines number theirs in turns, from 1
          return static_cast<int32_t>((key.value() - 1) % setting.num_groups) ==
                 setting.lost_group;
        },
        [&] {
          groups.engines[setting.lost_group]->OnGroupLost(
              Epoch(1), absl::UnavailableError("lost for the test"));
        });
  }

  std::set<int32_t> masked;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].sampling.slot.needs_mask) {
      EXPECT_EQ(setting.num_groups, 1) << "keys are told apart by number";
      masked.insert(static_cast<int32_t>(i));
    }
  }
  collector.AnswerMasks(client, &mask_of, std::move(masked));
  const int32_t at_once = setting.one_at_a_time ? 1 : setting.requests_at_once;
  const auto let_work = [&](bool may_work) {
    if (setting.num_groups == 1) return;
    for (const auto& gate : groups.gates) {
      if (may_work) {
        gate->Open();
      } else {
        gate->Close();
      }
    }
  };
  std::vector<RequestKey> keys;
  int64_t num_sequences = 0;
  let_work(false);
  for (EngineRequest& request : requests) {
    num_sequences += request.sampling.n;
    const auto key = client->Submit(std::move(request));
    EXPECT_TRUE(key.ok()) << key.status();
    if (key.ok()) keys.push_back(*key);
    if (at_once > 0 && keys.size() % at_once == 0) {
      let_work(true);
      collector.Await(num_sequences);
      let_work(false);
    }
  }
  let_work(true);
  collector.Await(num_sequences);
  collector.Take(keys, &run);
  End(setting, &groups, &run);
  for (const auto& engine : groups.engines) engine->Stop();
  if (recorder != nullptr) {
    EXPECT_TRUE(recorder->Close().ok());
  }
  return run;
}

}  // namespace quire
