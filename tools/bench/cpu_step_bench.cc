// SPDX-License-Identifier: Apache-2.0
//
// What one CPU worker's steps cost, whole: plan in, tokens out, on random
// weights of a real model's shape. Prefill of 512 tokens, then decodes of
// several batch sizes after 64 to 126 tokens each, and what the first of them
// comes to of the memory bandwidth measured in the same run.
//
//   bazel run --config=opt //tools/bench:cpu_step_bench -- --num_threads=2
//
// With --virtual_page_size=2097152 over a virtual cache, whose pages are asked
// for one step before they are written, as the coordinator does. It then says
// how many page groups a step maps.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "common/clock.h"
#include "common/step_plan.h"
#include "glog/logging.h"
#include "tests/kernels/cpu/measure.h"
#include "worker/executor/load_executor.h"

ABSL_FLAG(std::string, model, "tools/bench/llama_3_2_1b",
          "folder whose config.json gives the shape");
ABSL_FLAG(int, num_threads, 2, "threads of the worker");
ABSL_FLAG(int, virtual_page_size, 0,
          "bytes of a page of a virtual cache; 0: a paged cache");

namespace quire {
namespace {

constexpr int32_t kBlockSize = 16;
constexpr int32_t kNumBlocks = 512;
constexpr int32_t kPrefillTokens = 512;
constexpr int32_t kContextTokens = 64;
// More for each next sequence, so that rows fill their pages in turn.
constexpr int32_t kContextStep = 2;
constexpr int kMaxBatch = 32;

// One executor and the next plan's number.
class Worker {
 public:
  explicit Worker(const Clock* clock) {
    DeviceOptions device;
    device.num_threads = absl::GetFlag(FLAGS_num_threads);
    LoadSpec spec;
    spec.model_path = absl::GetFlag(FLAGS_model);
    spec.dtype = "bfloat16";
    spec.load_format = "dummy";
    spec.block_size = kBlockSize;
    spec.virtual_page_bytes = absl::GetFlag(FLAGS_virtual_page_size);
    spec.limits.max_num_batched_tokens = kPrefillTokens;
    spec.limits.max_num_seqs = kMaxBatch;
    spec.limits.max_model_len = 1024;
    auto executor = LoadExecutor(device, spec, /*board=*/nullptr, clock,
                                 [](const char*, int64_t, int64_t) {});
    CHECK(executor.ok()) << executor.status();
    executor_ = *std::move(executor);
    group_tokens_ = executor_->block_tokens();
    // As many tokens as blocks hold, and a group for each row to round up.
    const int32_t num_blocks =
        is_virtual() ? kNumBlocks * kBlockSize / group_tokens_ + kMaxBatch
                     : kNumBlocks;
    const absl::Status allocated = executor_->AllocateKv(num_blocks, 0);
    CHECK(allocated.ok()) << allocated;
  }

  int32_t group_tokens() const { return group_tokens_; }

  // Seconds of the step.
  double Run(StepPlan* plan) {
    plan->identity.step_id = StepId(++step_);
    return Seconds([&] {
      const absl::Status status = executor_->Step(*plan, &result_);
      CHECK(status.ok()) << status;
    });
  }

  // A plan that seats sequence `slot` with `num_tokens` random tokens, in
  // blocks of its own with room for 64 more, or in a row with room for one.
  void Admit(int32_t slot, int32_t num_tokens, StepPlan* plan) {
    AdmittedSlot admitted;
    admitted.slot = SlotId(slot);
    admitted.sequence_id = SequenceId(++sequence_);
    admitted.num_prompt_tokens = num_tokens;
    for (int32_t i = 0; i < num_tokens; ++i) {
      admitted.tokens.push_back(10 + static_cast<TokenId>(random_() % 100000));
    }
    admitted.sampling.temperature = 0;
    num_tokens_[slot] = num_tokens;
    if (is_virtual()) {
      admitted.cache = CacheRowId(slot);
      num_groups_[slot] = 0;
      MapNext(slot, plan);
    } else {
      const int32_t num_blocks = (num_tokens + 64 - 1) / kBlockSize + 1;
      std::vector<BlockId> blocks;
      for (int32_t i = 0; i < num_blocks; ++i) {
        // Those of a single long sequence, or of kMaxBatch short ones.
        const int32_t first = slot * (kNumBlocks / kMaxBatch);
        blocks.push_back(BlockId(first + i));
      }
      admitted.cache = blocks;
    }
    plan->admitted.push_back(admitted);
    plan->chunks.push_back({SlotId(slot), num_tokens, /*sample=*/true});
  }

  // A plan in which it decodes one token.
  void Decode(int32_t slot, StepPlan* plan) {
    plan->decodes.push_back(SlotId(slot));
    ++num_tokens_[slot];
    if (is_virtual()) MapNext(slot, plan);
  }

 private:
  // The row has room for one token more than its sequence has by then.
  void MapNext(int32_t slot, StepPlan* plan) {
    const int32_t num_groups = num_tokens_[slot] / group_tokens_ + 1;
    if (num_groups <= num_groups_[slot]) return;
    num_groups_[slot] = num_groups;
    plan->mappings.push_back(
        {.row = CacheRowId(slot), .num_page_groups = num_groups});
  }

  static bool is_virtual() {
    return absl::GetFlag(FLAGS_virtual_page_size) > 0;
  }

  std::unique_ptr<Executor> executor_;
  int32_t group_tokens_ = 0;
  int32_t num_tokens_[kMaxBatch] = {};  // whose keys are there after the plan
  int32_t num_groups_[kMaxBatch] = {};
  std::mt19937 random_;
  StepResult result_;
  uint64_t step_ = 0;
  uint64_t sequence_ = 0;
};

// Seconds of the best of three prefills.
double Prefill(Worker* worker) {
  double best = 1e9;
  for (int repeat = 0; repeat < 3; ++repeat) {
    StepPlan plan;
    worker->Admit(0, kPrefillTokens, &plan);
    best = std::min(best, worker->Run(&plan));
    StepPlan release;
    release.released = {SlotId(0)};
    worker->Run(&release);
  }
  return best;
}

// Mean and best seconds a step of `batch` sequences, and mean page groups that
// it maps.
struct DecodeTime {
  double mean = 0;
  double best = 1e9;
  double num_mapped = 0;
};
DecodeTime Decode(Worker* worker, int batch, int num_steps) {
  for (int slot = 0; slot < batch; ++slot) {
    StepPlan plan;
    worker->Admit(slot, kContextTokens + kContextStep * slot, &plan);
    worker->Run(&plan);
  }
  DecodeTime time;
  for (int step = 0; step < num_steps; ++step) {
    StepPlan plan;
    for (int slot = 0; slot < batch; ++slot) worker->Decode(slot, &plan);
    time.num_mapped += 1.0 * plan.mappings.size() / num_steps;
    const double seconds = worker->Run(&plan);
    time.mean += seconds / num_steps;
    time.best = std::min(time.best, seconds);
  }
  StepPlan release;
  for (int slot = 0; slot < batch; ++slot) {
    release.released.push_back(SlotId(slot));
  }
  worker->Run(&release);
  return time;
}

// Bytes that every decode reads: all layers and the head, in bfloat16.
double WeightBytes(const ModelConfig& config) {
  const double hidden = config.hidden_size;
  const double layer =
      hidden * (2.0 * config.q_size() + 2.0 * config.kv_size() +
                3.0 * config.intermediate_size);
  return 2 * (config.num_layers * layer + hidden * config.vocab_size);
}

void Main() {
  const auto config = ModelConfig::FromFolder(absl::GetFlag(FLAGS_model));
  CHECK(config.ok()) << config.status();
  const double bytes = WeightBytes(*config);
  RealClock clock;
  Worker worker(&clock);
  const double prefill = Prefill(&worker);
  std::printf("prefill %d: %.1f tok/s\n", kPrefillTokens,
              kPrefillTokens / prefill);
  const std::vector<uint64_t> gibibyte(1 << 27, 2);
  double bandwidth = 0;
  for (int batch : {1, 8, kMaxBatch}) {
    for (int i = 0; i < 3; ++i) {
      bandwidth = std::max(
          bandwidth, ReadBandwidth(absl::GetFlag(FLAGS_num_threads), gibibyte));
    }
    const DecodeTime time = Decode(&worker, batch, batch == 1 ? 24 : 8);
    std::printf("decode B=%d: %.1f ms a step (best %.1f), %.1f tok/s\n", batch,
                time.mean * 1e3, time.best * 1e3, batch / time.mean);
    if (absl::GetFlag(FLAGS_virtual_page_size) > 0) {
      std::printf("  maps %.2f page groups of %d tokens a step\n",
                  time.num_mapped, worker.group_tokens());
    }
    if (batch == 1) {
      std::printf(
          "  reads %.2f GB at %.1f GB/s, %.2f of the %.1f GB/s measured\n",
          bytes / 1e9, bytes / time.mean / 1e9, bytes / time.mean / bandwidth,
          bandwidth / 1e9);
    }
  }
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  quire::Main();
}
