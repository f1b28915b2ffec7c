// SPDX-License-Identifier: Apache-2.0
//
// One rank's executor on random weights of a real model's shape, driven by step
// plans without a coordinator, for benchmarks. What it cannot do ends the
// process.
#ifndef TOOLS_BENCH_BENCH_WORKER_H_
#define TOOLS_BENCH_BENCH_WORKER_H_

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/step_plan.h"
#include "worker/executor/load_executor.h"

namespace quire {

// Where keys and values lie.
enum class CacheLayout {
  kBlocks,     // of 16 tokens
  kRows,       // one block a sequence: each head's tokens in one run
  kTokenRows,  // rows of virtual memory, token by token over all layers
};

const char* NameOf(CacheLayout layout);

struct BenchWorkerOptions {
  DeviceOptions device;
  std::string model;  // folder whose config.json gives the shape
  int32_t rank = 0;
  int32_t world_size = 1;
  int32_t max_num_seqs = 0;
  int32_t max_num_batched_tokens = 0;
  int32_t num_blocks = 0;  // of 16 tokens
  CacheLayout layout = CacheLayout::kBlocks;
};

// Two steps may be on their way at once. Thread-compatible.
class BenchWorker {
 public:
  // Loads, profiles and allocates; the first rank prints how long each took.
  // With kBlocks, every block is filled by the model. `board` and `clock` are
  // borrowed.
  BenchWorker(const BenchWorkerOptions& options, KeyBoard* board,
              const Clock* clock);

  // Whether it speaks for its group.
  bool is_first() const { return options_.rank == 0; }

  // Enqueues a step, and waits for the one before.
  void Run(StepPlan* plan);
  // Waits for the oldest step; REQUIRES: there is one.
  void Finish();
  void Drain();
  // Of each operation since it was last asked, if they are timed.
  std::vector<OperationTime> TakeTimes() {
    return executor_->TakeOperationTimes();
  }
  const IdleTimes& idle_times() const { return executor_->idle_times(); }

  // Seats a sequence of `num_tokens`, all computed but the last `num_new`, with
  // room for `room` more.
  void Admit(int32_t slot, int32_t num_tokens, int32_t num_new, int32_t room,
             StepPlan* plan);
  // Computes `num_tokens` of each of so many slots, so that all that decodes
  // read is what a model wrote. Blocks are filled once and for all.
  void Prefill(int num_slots, int32_t num_tokens, int32_t room);
  // Of slots [0, num_slots). Waits for all steps.
  void ReleaseAll(int num_slots);

 private:
  LoadSpec SpecOf() const;
  // Room for so many tokens.
  void Place(int32_t slot, int32_t num_tokens, AdmittedSlot* admitted,
             StepPlan* plan);
  // Every block holds keys and values that a model computed.
  void FillCache();

  const BenchWorkerOptions options_;
  std::unique_ptr<Executor> executor_;
  std::mt19937 random_;
  StepResult result_;
  uint64_t step_ = 0;
  uint64_t sequence_ = 0;
  int32_t next_block_ = 0;
};

}  // namespace quire

#endif  // TOOLS_BENCH_BENCH_WORKER_H_
