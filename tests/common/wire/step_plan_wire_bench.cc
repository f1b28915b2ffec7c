// SPDX-License-Identifier: Apache-2.0
//
// What a step costs on the wire: a steady decode of 256 slots, 16 of which
// cross into a new block (one in block_size).
#include <string>

#include "benchmark/benchmark.h"
#include "common/wire/step_plan_wire.h"
#include "glog/logging.h"
#include "proto/worker.pb.h"

namespace quire {
namespace {

constexpr int kNumSlots = 256;
constexpr int kNumAppended = 16;

StepPlan SteadyDecode() {
  StepPlan plan;
  plan.identity = {Epoch(3), Epoch(17), StepId(1'000'000)};
  for (int slot = 0; slot < kNumSlots; ++slot) {
    plan.decodes.push_back(SlotId(slot));
  }
  for (int i = 0; i < kNumAppended; ++i) {
    plan.appended.push_back({SlotId(i * 16 + 5), BlockId(20'000 + 37 * i)});
  }
  return plan;
}

void EncodePlan(benchmark::State& state) {
  const StepPlan plan = SteadyDecode();
  v1::StepPlan message;
  std::string bytes;
  for (auto _ : state) {
    EncodeStepPlan(plan, &message);
    message.SerializeToString(&bytes);
    benchmark::DoNotOptimize(bytes.data());
  }
  state.counters["bytes"] = bytes.size();
}
BENCHMARK(EncodePlan);

void DecodePlan(benchmark::State& state) {
  v1::StepPlan message;
  EncodeStepPlan(SteadyDecode(), &message);
  const std::string bytes = message.SerializeAsString();
  StepPlan plan;
  for (auto _ : state) {
    CHECK(message.ParseFromString(bytes));
    CHECK(DecodeStepPlan(message, &plan).ok());
    benchmark::DoNotOptimize(plan.decodes.data());
  }
}
BENCHMARK(DecodePlan);

void ResultRoundTrip(benchmark::State& state) {
  StepResult result;
  result.identity = SteadyDecode().identity;
  result.tokens.assign(kNumSlots, 100'000);
  v1::StepResult message;
  std::string bytes;
  StepResult decoded;
  for (auto _ : state) {
    EncodeStepResult(result, &message);
    message.SerializeToString(&bytes);
    CHECK(message.ParseFromString(bytes));
    CHECK(DecodeStepResult(message, &decoded).ok());
  }
  state.counters["bytes"] = bytes.size();
}
BENCHMARK(ResultRoundTrip);

}  // namespace
}  // namespace quire
