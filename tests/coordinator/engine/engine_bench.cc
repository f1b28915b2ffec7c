// SPDX-License-Identifier: Apache-2.0
//
// What a step costs the coordinator, without wire and workers: every sequence
// decodes, blocks of 16, run-ahead 2.
//
// bazel run --config=opt //tests/coordinator/engine:engine_bench
#include <deque>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "coordinator/engine/engine_core.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr int32_t kNumPromptTokens = 300;
constexpr int32_t kMaxTokens = 4000;

// An engine with `num_running` decoding sequences, and workers that answer
// whatever was asked.
class Bench {
 public:
  // With several tenants, all have a maximum that they do not reach, and two
  // more requests each that wait for a slot.
  explicit Bench(int32_t num_running, int32_t num_tenants = 1)
      : num_running_(num_running), num_tenants_(num_tenants) {
    Fill();
  }

  // A new engine, so that no sequence comes to its end in a timed step.
  void Fill() {
    EngineOptions options;
    options.max_num_seqs = num_running_;
    options.max_num_batched_tokens = 8192;
    options.max_model_len = 8192;
    options.max_queued_requests = num_running_;
    if (num_tenants_ > 1) options.tenants.unlisted.max_kv = 0.999;
    auto core = EngineCore::Create(options);
    CHECK(core.ok()) << core.status();
    core_ = *std::move(core);
    results_.clear();
    CHECK(core_
              ->OnGroupReady(
                  {.coordinator_epoch = Epoch(1),
                   .group_epoch = Epoch(1),
                   .num_blocks = num_running_ *
                                 ((kNumPromptTokens + kMaxTokens) / 16 + 1),
                   .num_host_blocks = 0},
                  now_)
              .ok());
    const int32_t num_waiting = num_tenants_ > 1 ? 2 * num_tenants_ : 0;
    for (int32_t i = 0; i < num_running_ + num_waiting; ++i) {
      EngineRequest request;
      request.request_id = absl::StrCat(i);
      request.tenant = absl::StrCat(i % num_tenants_);
      // Lengths apart, so that blocks are not all taken in the same step.
      request.prompt.assign(kNumPromptTokens - i % 16, 1);
      request.sampling.max_tokens = kMaxTokens;
      request.sampling.stop_token_ids = {2};
      core_->AddRequest(RequestKey(i + 1), std::move(request), now_);
    }
    while (Plan() != num_running_) {
      if (results_.size() == 2) Deliver();
    }
    num_steps_ = 0;
  }

  // Plans a step and prepares its result. Returns how many decode in it.
  size_t Plan() {
    const StepPlan* plan = core_->Plan(now_);
    if (plan == nullptr) return 0;
    ++num_steps_;
    size_t num_samples = plan->decodes.size();
    for (const Slice& slice : plan->chunks) num_samples += slice.sample;
    StepResult& result = results_.emplace_back();
    result.identity = plan->identity;
    result.tokens.assign(num_samples, 7);
    result.table_digest = core_->table_digest();
    return plan->decodes.size();
  }

  void Deliver() {
    core_->OnStepResult(std::move(results_.front()), now_);
    results_.pop_front();
  }

  void HandOver() { benchmark::DoNotOptimize(core_->TakeEffects()); }

  bool IsWorn() const { return num_steps_ > kMaxTokens / 2; }
  size_t num_results() const { return results_.size(); }

 private:
  const int32_t num_running_;
  const int32_t num_tenants_;
  const absl::Time now_ = absl::UnixEpoch();
  std::unique_ptr<EngineCore> core_;
  std::deque<StepResult> results_;
  int num_steps_ = 0;
};

// Scheduler, block manager and plan.
void BM_Plan(benchmark::State& state) {
  Bench bench(static_cast<int32_t>(state.range(0)));
  for (auto _ : state) {
    state.PauseTiming();
    if (bench.IsWorn()) bench.Fill();
    bench.Deliver();
    bench.HandOver();
    state.ResumeTiming();
    CHECK_EQ(bench.Plan(), state.range(0));
  }
}
BENCHMARK(BM_Plan)->Arg(32)->Arg(256)->Arg(2048)->Unit(benchmark::kMicrosecond);

// The same among tenants with quotas.
void BM_PlanAmongTenants(benchmark::State& state) {
  Bench bench(static_cast<int32_t>(state.range(0)),
              static_cast<int32_t>(state.range(1)));
  for (auto _ : state) {
    state.PauseTiming();
    if (bench.IsWorn()) bench.Fill();
    bench.Deliver();
    bench.HandOver();
    state.ResumeTiming();
    CHECK_EQ(bench.Plan(), state.range(0));
  }
}
BENCHMARK(BM_PlanAmongTenants)
    ->Args({256, 8})
    ->Args({256, 200})
    ->Args({2048, 8})
    ->Args({2048, 200})
    ->Unit(benchmark::kMicrosecond);

// As BM_Plan, with the last step's tokens and the news of them.
void BM_PlanAndResult(benchmark::State& state) {
  Bench bench(static_cast<int32_t>(state.range(0)));
  for (auto _ : state) {
    if (bench.IsWorn()) {
      state.PauseTiming();
      bench.Fill();
      state.ResumeTiming();
    }
    bench.Deliver();
    CHECK_EQ(bench.Plan(), state.range(0));
    bench.HandOver();
  }
}
BENCHMARK(BM_PlanAndResult)
    ->Arg(32)
    ->Arg(256)
    ->Arg(2048)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace quire
