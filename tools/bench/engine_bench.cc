// SPDX-License-Identifier: Apache-2.0
//
// What one worker's steps cost, whole and by parts, without coordinator and
// gRPC: plan in, tokens out, two steps on their way at once as in a cluster, on
// random weights of a real model's shape. Each line sets the time beside the
// floor of step_floor.h.
//
//   bazel run --config=opt --config=cuda90 //tools/bench:engine_bench --
//       --model=tools/bench/llama_3_1_8b --gemm_cache=/tmp/gemm
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/model_config.h"
#include "common/step_plan.h"
#include "glog/logging.h"
#include "tests/worker/collective/memory_board.h"
#include "tests/worker/collective/rank_processes.h"
#include "tools/bench/bench_worker.h"
#include "tools/bench/step_floor.h"
#include "worker/collective/nccl.h"

ABSL_FLAG(std::string, model, "tools/bench/llama_3_1_8b",
          "folder whose config.json gives the shape");
ABSL_FLAG(std::string, device, "cuda", "cuda or cpu");
ABSL_FLAG(std::string, gemm_cache, "", "see quire_worker");
ABSL_FLAG(bool, deterministic, false, "see quire_worker");
ABSL_FLAG(bool, enforce_eager, false, "see quire_worker");
ABSL_FLAG(bool, stream_gemm, true, "products of few rows by our own kernel");
ABSL_FLAG(bool, tile_gemm, true,
          "products of many rows as well, where that is faster");
ABSL_FLAG(bool, parts, false, "time each operation; steps are eager and slow");
ABSL_FLAG(std::vector<std::string>, decodes,
          std::vector<std::string>({"1x512", "32x512", "128x512", "256x512",
                                    "1x1920", "32x1920", "128x1920"}),
          "sequences x context");
ABSL_FLAG(std::vector<std::string>, prefills,
          std::vector<std::string>({"128", "512", "1920"}), "tokens");
ABSL_FLAG(std::vector<std::string>, mixes,
          std::vector<std::string>({"256x512+256", "256x512+1024",
                                    "512x330+256", "512x330+512"}),
          "sequences x context + tokens of a prompt");
ABSL_FLAG(
    bool, layouts, false,
    "only the decodes and prefills, each with keys and values in blocks "
    "of 16 tokens, in whole rows head by head, and in whole rows token by "
    "token over all layers on pages of 2 MiB (vAttention)");
ABSL_FLAG(int, prompt_pause_ms, 0,
          "rest before each prompt alone, as where nothing else is to do");
ABSL_FLAG(int, steps, 40, "decodes timed of each kind");
ABSL_FLAG(int, max_num_seqs, 512, "slots");
ABSL_FLAG(int, max_num_batched_tokens, 2048, "tokens of a step");
ABSL_FLAG(int, num_blocks, 32768, "of 16 tokens");
ABSL_FLAG(int, tensor_parallel_size, 1, "ranks, a process and a GPU each");
ABSL_FLAG(std::string, collective, "auto", "see quire_worker");
ABSL_FLAG(bool, record_groups, true, "see quire_worker");
ABSL_FLAG(std::string, device_wait, "spin", "see quire_worker");
ABSL_FLAG(double, bandwidth, 4300, "GB/s of the device's memory");
ABSL_FLAG(double, tflops, 790, "of matrix products");

namespace quire {
namespace {

struct Batch {
  int num_seqs = 0;
  int context = 0;
  int prompt = 0;
};

Batch ParseBatch(const std::string& text) {
  Batch batch;
  const std::vector<std::string> sum = absl::StrSplit(text, '+');
  const std::vector<std::string> product = absl::StrSplit(sum[0], 'x');
  CHECK(product.size() == 2 && absl::SimpleAtoi(product[0], &batch.num_seqs) &&
        absl::SimpleAtoi(product[1], &batch.context))
      << text;
  if (sum.size() > 1) CHECK(absl::SimpleAtoi(sum[1], &batch.prompt)) << text;
  return batch;
}

double StepFloor(const ModelConfig& config, const StepWork& work) {
  FloorRates rates;
  rates.read_bytes = absl::GetFlag(FLAGS_bandwidth) * 1e9;
  rates.product_flop = absl::GetFlag(FLAGS_tflops) * 1e12;
  return FloorSeconds(config, work, absl::GetFlag(FLAGS_tensor_parallel_size),
                      rates);
}

BenchWorkerOptions OptionsOf(int rank, CacheLayout layout) {
  BenchWorkerOptions options;
  DeviceOptions& device = options.device;
  device.collective = absl::GetFlag(FLAGS_collective);
  device.record_groups = absl::GetFlag(FLAGS_record_groups);
  device.device_wait = absl::GetFlag(FLAGS_device_wait);
  device.device = absl::GetFlag(FLAGS_device);
  device.gemm_cache = absl::GetFlag(FLAGS_gemm_cache);
  device.deterministic = absl::GetFlag(FLAGS_deterministic);
  device.enforce_eager = absl::GetFlag(FLAGS_enforce_eager);
  device.stream_gemm = absl::GetFlag(FLAGS_stream_gemm);
  device.tile_gemm = absl::GetFlag(FLAGS_tile_gemm);
  device.times_operations = absl::GetFlag(FLAGS_parts);
  device.measures_idleness = !device.times_operations;
  options.model = absl::GetFlag(FLAGS_model);
  options.rank = rank;
  options.world_size = absl::GetFlag(FLAGS_tensor_parallel_size);
  options.max_num_seqs = absl::GetFlag(FLAGS_max_num_seqs);
  options.max_num_batched_tokens = absl::GetFlag(FLAGS_max_num_batched_tokens);
  options.num_blocks = absl::GetFlag(FLAGS_num_blocks);
  options.layout = layout;
  return options;
}

void PrintParts(BenchWorker* worker, int steps) {
  for (const OperationTime& time : worker->TakeTimes()) {
    std::printf("    %-24s %9.1f us a step, %6.2f each\n", time.name.c_str(),
                time.seconds * 1e6 / steps, time.seconds * 1e6 / time.count);
  }
}

void Report(const std::string& name, double seconds, double floor, int steps,
            BenchWorker* worker) {
  if (!worker->is_first()) return;
  std::printf("%-22s %8.3f ms, floor %7.3f, floor / measured %.3f\n",
              name.c_str(), seconds * 1e3, floor * 1e3, floor / seconds);
  if (absl::GetFlag(FLAGS_parts)) PrintParts(worker, steps);
}

// Pairs of tokens in causal attention of a prompt.
double PromptPairs(double num_tokens) { return num_tokens * num_tokens / 2; }

// Decodes of a batch, each with a chunk of a prompt beside it if it has one.
// Yields a step's seconds.
double BenchDecodes(const std::string& name, const ModelConfig& config,
                    BenchWorker* worker) {
  const Batch batch = ParseBatch(name);
  const int steps = absl::GetFlag(FLAGS_parts) ? 5 : absl::GetFlag(FLAGS_steps);
  constexpr int kWarmSteps = 6;
  worker->Prefill(batch.num_seqs - (batch.prompt > 0), batch.context - 1,
                  kWarmSteps + steps + 1);
  StepPlan first;
  for (int slot = 0; slot < batch.num_seqs - (batch.prompt > 0); ++slot) {
    worker->Admit(slot, batch.context, 1, kWarmSteps + steps, &first);
    first.decodes.push_back(SlotId(slot));
  }
  const int32_t prompt_slot = batch.num_seqs - 1;
  if (batch.prompt > 0) {
    worker->Admit(prompt_slot, batch.prompt, batch.prompt, 0, &first);
    first.chunks = {{SlotId(prompt_slot), batch.prompt, true}};
  }
  const AdmittedSlot prompt = first.admitted.back();
  absl::Time start;
  for (int step = 0; step < kWarmSteps + steps; ++step) {
    if (step == kWarmSteps) {
      worker->Drain();
      worker->TakeTimes();
      start = absl::Now();
    }
    StepPlan plan;
    if (step == 0) plan = first;
    plan.decodes = first.decodes;
    plan.chunks = first.chunks;
    if (step > 0 && batch.prompt > 0) {
      plan.released = {SlotId(prompt_slot)};
      plan.admitted = {prompt};
    }
    worker->Run(&plan);
    if (absl::GetFlag(FLAGS_parts)) worker->Drain();
  }
  worker->Drain();
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start) / steps;
  const double context = batch.context + kWarmSteps + steps / 2.0;
  const double tokens = first.decodes.size() + batch.prompt;
  Report(name, seconds,
         StepFloor(config, {.num_tokens = tokens,
                            .num_sampled = static_cast<double>(batch.num_seqs),
                            .kv_tokens = first.decodes.size() * context,
                            .prompt_pairs = PromptPairs(batch.prompt)}),
         steps, worker);
  worker->ReleaseAll(batch.num_seqs);
  return seconds;
}

// A prompt alone, from plan to token; yields its seconds.
double BenchPrefill(const std::string& name, const ModelConfig& config,
                    BenchWorker* worker) {
  int num_tokens = 0;
  CHECK(absl::SimpleAtoi(name, &num_tokens)) << name;
  const int repeats = absl::GetFlag(FLAGS_parts) ? 2 : 8;
  std::vector<double> times;
  for (int repeat = 0; repeat <= repeats; ++repeat) {
    StepPlan plan;
    worker->Admit(0, num_tokens, num_tokens, 0, &plan);
    plan.chunks = {{SlotId(0), num_tokens, true}};
    if (repeat == 1) worker->TakeTimes();
    absl::SleepFor(absl::Milliseconds(absl::GetFlag(FLAGS_prompt_pause_ms)));
    const absl::Time start = absl::Now();
    worker->Run(&plan);
    worker->Drain();
    times.push_back(absl::ToDoubleSeconds(absl::Now() - start));
    worker->ReleaseAll(1);
  }
  std::sort(times.begin(), times.end());
  Report(absl::StrCat("prefill ", name), times[times.size() / 2],
         StepFloor(config, {.num_tokens = static_cast<double>(num_tokens),
                            .num_sampled = 1,
                            .prompt_pairs = PromptPairs(num_tokens)}),
         repeats, worker);
  return times[times.size() / 2];
}

// Every batch with keys and values laid out in every way, and what the others
// take of what blocks take.
void BenchLayouts(const ModelConfig& config, const Clock* clock) {
  const std::vector<std::string> decodes = absl::GetFlag(FLAGS_decodes);
  const std::vector<std::string> prefills = absl::GetFlag(FLAGS_prefills);
  std::vector<std::vector<double>> seconds;
  const CacheLayout layouts[] = {CacheLayout::kBlocks, CacheLayout::kRows,
                                 CacheLayout::kTokenRows};
  // Whole rows take memory for every slot.
  int num_slots = 1;
  for (const std::string& name : decodes) {
    num_slots = std::max(num_slots, ParseBatch(name).num_seqs);
  }
  for (const CacheLayout layout : layouts) {
    std::printf("%s\n", NameOf(layout));
    MemoryBoard board;
    BenchWorkerOptions options = OptionsOf(/*rank=*/0, layout);
    options.max_num_seqs = num_slots;
    BenchWorker worker(options, &board, clock);
    std::vector<double>& times = seconds.emplace_back();
    for (const std::string& name : decodes) {
      times.push_back(BenchDecodes(name, config, &worker));
    }
    for (const std::string& name : prefills) {
      times.push_back(BenchPrefill(name, config, &worker));
    }
  }
  for (size_t i = 0; i < seconds[0].size(); ++i) {
    const bool is_decode = i < decodes.size();
    std::printf(
        "%-22s",
        is_decode
            ? decodes[i].c_str()
            : absl::StrCat("prefill ", prefills[i - decodes.size()]).c_str());
    for (size_t layout = 0; layout < seconds.size(); ++layout) {
      std::printf(" %s %.3f ms (%.3f)", NameOf(layouts[layout]),
                  seconds[layout][i] * 1e3, seconds[layout][i] / seconds[0][i]);
    }
    std::printf("\n");
  }
}

// What every rank does, at the same time.
void RunRank(int rank, const ModelConfig& config, KeyBoard* board,
             const Clock* clock) {
  BenchWorker worker(OptionsOf(rank, CacheLayout::kBlocks), board, clock);
  for (const std::string& name : absl::GetFlag(FLAGS_decodes)) {
    if (!name.empty()) BenchDecodes(name, config, &worker);
  }
  for (const std::string& name : absl::GetFlag(FLAGS_prefills)) {
    if (!name.empty()) BenchPrefill(name, config, &worker);
  }
  for (const std::string& name : absl::GetFlag(FLAGS_mixes)) {
    if (!name.empty()) BenchDecodes(name, config, &worker);
  }
  if (!worker.is_first()) return;
  std::printf("device %s\n", worker.idle_times().ToString().c_str());
}

void Main() {
  const auto config = ModelConfig::FromFolder(absl::GetFlag(FLAGS_model));
  CHECK(config.ok()) << config.status();
  const WeightCounts weights = WeightsOf(*config);
  std::printf("%s: %.2f G weights in products, %.0f bytes of KV a token\n",
              absl::GetFlag(FLAGS_model).c_str(),
              (weights.layers + weights.head) / 1e9,
              KvBytes(*config, /*num_ranks=*/1));
  const RealClock clock;
  if (absl::GetFlag(FLAGS_layouts)) {
    CHECK_EQ(absl::GetFlag(FLAGS_tensor_parallel_size), 1);
    BenchLayouts(*config, &clock);
    return;
  }
  const int32_t world = absl::GetFlag(FLAGS_tensor_parallel_size);
  if (world == 1) {
    MemoryBoard board;
    RunRank(/*rank=*/0, *config, &board, &clock);
    return;
  }
  const auto said = RunRankProcesses(
      world, [&](int32_t rank, KeyBoard* board) -> absl::StatusOr<std::string> {
        RunRank(rank, *config, board, &clock);
        return std::string();
      });
  CHECK(said.ok()) << said.status();
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  absl::ParseCommandLine(argc, argv);
  // A line is seen when it is printed, also where somebody runs out of time.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  quire::PrepareNcclEnvironment("127.0.0.1");
  quire::Main();
}
