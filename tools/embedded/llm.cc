// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/llm.h"

#include <prometheus/registry.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <iostream>
#include <map>
#include <random>
#include <thread>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/metrics/request_metrics.h"
#include "common/status_macros.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/engine_loop.h"
#include "coordinator/gateway/gateway_context.h"
#include "coordinator/served_model.h"
#include "tools/cli/progress.h"
#include "tools/embedded/embedded_call.h"
#include "tools/embedded/embedded_group.h"
#include "worker/executor/load_executor.h"

namespace quire {
namespace {

constexpr int kNumTextThreads = 1;
constexpr int kMaxQueuedTexts = 1024;
// Enough to fill the batch again while finished ones are taken away.
constexpr int32_t kStartedPerSlot = 2;

// Draws all ranks' loading as one bar. Thread-safe.
class LoadBar final {
 public:
  LoadBar(ProgressStyle style, const Clock* clock)
      : bar_("Loading weights", Progress::Unit::kBytes, style, &std::cerr,
             clock) {}

  void Update(int32_t rank, int64_t done, int64_t total) {
    absl::MutexLock lock(&mutex_);
    ranks_[rank] = {done, total};
    uint64_t all_done = 0;
    uint64_t all = 0;
    for (const auto& [_, bytes] : ranks_) {
      all_done += bytes.first;
      all += bytes.second;
    }
    bar_.Update(all_done, all);
  }
  void Finish() {
    absl::MutexLock lock(&mutex_);
    bar_.Finish();
  }

 private:
  absl::Mutex mutex_;
  std::map<int32_t, std::pair<int64_t, int64_t>> ranks_ ABSL_GUARDED_BY(mutex_);
  Progress bar_ ABSL_GUARDED_BY(mutex_);
};

ProgressStyle StyleOf(const LLMOptions& options) {
  return options.show_progress ? ProgressStyleFor(STDERR_FILENO)
                               : ProgressStyle::kNone;
}

EngineOptions EngineOptionsOf(const LLMOptions& options) {
  EngineOptions engine;
  engine.max_num_seqs = options.max_num_seqs;
  engine.max_num_batched_tokens = options.max_num_batched_tokens;
  engine.block_size = options.block_size;
  engine.enable_prefix_caching = options.enable_prefix_caching;
  return engine;
}

absl::Status CheckChoice(const char* flag, const std::string& value,
                         const std::vector<std::string>& choices) {
  if (absl::c_linear_search(choices, value)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--", flag, "=", value, ": it may be ", absl::StrJoin(choices, " or ")));
}

DeviceOptions DeviceOptionsOf(const LLMOptions& options) {
  DeviceOptions device;
  device.device = options.device;
  device.num_threads = options.num_threads;
  return device;
}

EmbeddedGroupOptions GroupOptionsOf(const LLMOptions& options,
                                    const ServedModel& model) {
  EmbeddedGroupOptions group;
  group.device = DeviceOptionsOf(options);
  group.load.model_path = options.model;
  group.load.dtype = options.dtype;
  group.load.load_format =
      options.load_format == "auto" ? "safetensors" : options.load_format;
  group.load.seed = options.seed;
  group.load.world_size = options.tensor_parallel_size;
  group.load.block_size = options.block_size;
  group.load.limits.max_num_batched_tokens = options.max_num_batched_tokens;
  group.load.limits.max_num_seqs = options.max_num_seqs;
  group.load.limits.max_model_len = model.max_model_len;
  group.memory_utilization = options.memory_utilization;
  group.num_blocks_override = options.num_blocks_override;
  group.swap_space_bytes = options.swap_space_bytes;
  return group;
}

}  // namespace

absl::Status CheckLLMOptions(const LLMOptions& options) {
  QUIRE_RETURN_IF_ERROR(CheckDeviceOptions(DeviceOptionsOf(options)));
  QUIRE_RETURN_IF_ERROR(
      CheckChoice("dtype", options.dtype, {"auto", "float32", "bfloat16"}));
  QUIRE_RETURN_IF_ERROR(CheckChoice("load_format", options.load_format,
                                    {"auto", "safetensors", "dummy"}));
  if (options.tensor_parallel_size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--tensor_parallel_size=", options.tensor_parallel_size,
                     ": it may be 1 or more"));
  }
  const double share = options.memory_utilization;
  if (!(share > 0 && share <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--memory_utilization=", share, ": it must be above 0 and at most 1"));
  }
  return EngineCore::Create(EngineOptionsOf(options), nullptr).status();
}

// Members are destroyed bottom up: who calls goes before who is called.
class LLM::Impl {
 public:
  ~Impl();

  absl::Status Init(const LLMOptions& options);
  void Start(const v1::GenerateRequest& request,
             std::function<void(LLMResult)> done);
  EngineStats stats() const { return engine_->Stats(); }

 private:
  struct Running {
    std::unique_ptr<EmbeddedCall> call;
    std::function<void(LLMResult)> done;
    // A call is taken when both are true: it may end while it starts.
    bool is_started = false;
    bool is_ended = false;
  };

  void Note(uint64_t number, bool Running::*what);

  // Takes ended calls from their sessions, outside of the sessions' locks.
  void TakeEnded();

  RealClock clock_;
  prometheus::Registry registry_;
  ServedModel model_;
  std::unique_ptr<RequestMetrics> metrics_;
  OutputRouter router_{kNumTextThreads};
  SessionTable sessions_;
  std::unique_ptr<EngineLoop> engine_;
  std::unique_ptr<EmbeddedGroup> group_;
  GatewayContext gateway_;  // read by what is queued for the pool
  TextPool text_pool_{kNumTextThreads, kMaxQueuedTexts};

  absl::Mutex mutex_;
  uint64_t num_started_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Running> running_ ABSL_GUARDED_BY(mutex_);
  std::deque<uint64_t> ended_ ABSL_GUARDED_BY(mutex_);
  bool is_stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread taker_;
};

absl::Status LLM::Impl::Init(const LLMOptions& options) {
  QUIRE_RETURN_IF_ERROR(CheckLLMOptions(options));
  ServedModelOptions served;
  served.folder = options.model;
  served.tensor_parallel_size = options.tensor_parallel_size;
  served.max_model_len = options.max_model_len;
  QUIRE_ASSIGN_OR_RETURN(model_, OpenServedModel(served));
  metrics_ = std::make_unique<RequestMetrics>(model_.name, &registry_);
  EngineOptions engine = EngineOptionsOf(options);
  FitEngineToModel(model_, &engine);
  QUIRE_RETURN_IF_ERROR(ValidateEngineOptions(engine));
  QUIRE_ASSIGN_OR_RETURN(engine_,
                         EngineLoop::Create(engine, &router_, &clock_));
  LoadBar bar(StyleOf(options), &clock_);
  absl::StatusOr<std::unique_ptr<EmbeddedGroup>> group = EmbeddedGroup::Create(
      GroupOptionsOf(options, model_),
      [&bar](int32_t rank, const char*, int64_t done, int64_t total) {
        if (total > 0) bar.Update(rank, done, total);
      },
      engine_.get(), &clock_);
  bar.Finish();
  QUIRE_RETURN_IF_ERROR(group.status());
  group_ = *std::move(group);
  engine_->Start(group_.get());
  engine_->OnGroupReady(group_->ready());
  engine_->AwaitReady(absl::InfiniteFuture());
  gateway_.clock = &clock_;
  gateway_.engine = engine_.get();
  gateway_.tokenizer = model_.tokenizer.get();
  gateway_.grammars = model_.grammars.get();
  gateway_.router = &router_;
  gateway_.sessions = &sessions_;
  gateway_.text_pool = &text_pool_;
  gateway_.metrics = metrics_.get();
  gateway_.limits = model_.limits;
  std::random_device entropy;
  gateway_.seed =
      options.seed != 0 ? options.seed : uint64_t{entropy()} << 32 | entropy();
  taker_ = std::thread([this] { TakeEnded(); });
  return absl::OkStatus();
}

LLM::Impl::~Impl() {
  if (taker_.joinable()) {
    // Ends what runs, each with its own call to `done`.
    sessions_.Drain(clock_.Now(), &clock_);
    {
      absl::MutexLock lock(&mutex_);
      is_stopping_ = true;
    }
    taker_.join();
  }
  if (engine_ != nullptr) engine_->Stop();
}

void LLM::Impl::Start(const v1::GenerateRequest& request,
                      std::function<void(LLMResult)> done) {
  EmbeddedCall* call = nullptr;
  uint64_t key = 0;
  {
    absl::MutexLock lock(&mutex_);
    const uint64_t number = ++num_started_;
    Running& running = running_[number];
    running.done = std::move(done);
    running.call = std::make_unique<EmbeddedCall>(
        &gateway_, number,
        [this, number] { Note(number, &Running::is_ended); });
    call = running.call.get();
    key = number;
  }
  call->Start(request);
  Note(key, &Running::is_started);
}

void LLM::Impl::Note(uint64_t number, bool Running::*what) {
  absl::MutexLock lock(&mutex_);
  Running& running = running_.at(number);
  running.*what = true;
  if (running.is_started && running.is_ended) ended_.push_back(number);
}

void LLM::Impl::TakeEnded() {
  const auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !ended_.empty() || (is_stopping_ && running_.empty());
  };
  while (true) {
    Running running;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&has_work));
      if (ended_.empty()) return;
      const auto it = running_.find(ended_.front());
      running = std::move(it->second);
      running_.erase(it);
      ended_.pop_front();
    }
    running.done(running.call->Take());
  }
}

LLM::LLM(const LLMOptions& options)
    : impl_(std::make_unique<Impl>()), show_progress_(options.show_progress) {
  status_ = impl_->Init(options);
  if (!status_.ok()) impl_ = nullptr;
  max_useful_requests_ = kStartedPerSlot * options.max_num_seqs;
}

LLM::~LLM() = default;

void LLM::Start(const v1::GenerateRequest& request,
                std::function<void(LLMResult)> done) {
  if (status_.ok()) {
    impl_->Start(request, std::move(done));
    return;
  }
  LLMResult result;
  result.status = status_;
  result.request_id = request.request_id();
  done(std::move(result));
}

std::vector<LLMResult> LLM::Generate(const std::vector<std::string>& prompts,
                                     const v1::SamplingParams& sampling) {
  std::vector<v1::GenerateRequest> requests(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    requests[i].set_text(prompts[i]);
    *requests[i].mutable_sampling() = sampling;
  }
  return Generate(requests);
}

std::vector<LLMResult> LLM::Generate(
    const std::vector<v1::GenerateRequest>& requests) {
  RealClock clock;
  Progress bar(
      "Generating", Progress::Unit::kCount,
      show_progress_ ? ProgressStyleFor(STDERR_FILENO) : ProgressStyle::kNone,
      &std::cerr, &clock);
  const absl::Time start = clock.Now();
  std::vector<LLMResult> results(requests.size());
  absl::Mutex mutex;
  size_t num_started = 0;
  size_t num_done = 0;
  int64_t num_tokens = 0;
  const auto may_go_on = [&] {
    return num_done == requests.size() ||
           (num_started < requests.size() &&
            num_started - num_done < static_cast<size_t>(max_useful_requests_));
  };
  while (true) {
    size_t next = 0;
    {
      absl::MutexLock lock(&mutex);
      mutex.Await(absl::Condition(&may_go_on));
      if (num_done == requests.size()) break;
      next = num_started++;
    }
    Start(requests[next], [&, next](LLMResult result) {
      absl::MutexLock lock(&mutex);
      for (const LLMAnswer& answer : result.answers) {
        num_tokens += static_cast<int64_t>(answer.token_ids.size());
      }
      results[next] = std::move(result);
      ++num_done;
      const double seconds = absl::ToDoubleSeconds(clock.Now() - start);
      bar.Update(num_done, requests.size(),
                 seconds > 0
                     ? absl::StrCat(static_cast<int64_t>(num_tokens / seconds),
                                    " tokens/s")
                     : "");
    });
  }
  bar.Finish();
  return results;
}

EngineStats LLM::stats() const { return impl_->stats(); }

}  // namespace quire
