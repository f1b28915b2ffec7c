// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/bench_worker.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 16;
constexpr int32_t kMaxModelLen = 2048;
// Sequences whose contents are computed; the other blocks are copies of theirs.
constexpr int32_t kFilledTokens = 2048;

}  // namespace

const char* NameOf(CacheLayout layout) {
  switch (layout) {
    case CacheLayout::kBlocks:
      return "blocks of 16";
    case CacheLayout::kRows:
      return "rows by heads";
    case CacheLayout::kTokenRows:
      return "rows by tokens";
  }
  return "";
}

LoadSpec BenchWorker::SpecOf() const {
  LoadSpec spec;
  spec.rank = options_.rank;
  spec.world_size = options_.world_size;
  spec.model_path = options_.model;
  spec.dtype = "bfloat16";
  spec.load_format = "dummy";
  spec.block_size =
      options_.layout == CacheLayout::kRows ? kMaxModelLen : kBlockSize;
  spec.virtual_page_bytes =
      options_.layout == CacheLayout::kTokenRows ? 2 << 20 : 0;
  spec.limits.max_num_batched_tokens = options_.max_num_batched_tokens;
  spec.limits.max_num_seqs = options_.max_num_seqs;
  spec.limits.max_model_len = kMaxModelLen;
  return spec;
}

BenchWorker::BenchWorker(const BenchWorkerOptions& options, KeyBoard* board,
                         const Clock* clock)
    : options_(options) {
  const absl::Time start = absl::Now();
  auto executor = LoadExecutor(options_.device, SpecOf(), board, clock,
                               [](const char*, int64_t, int64_t) {});
  CHECK(executor.ok()) << executor.status();
  executor_ = *std::move(executor);
  const absl::Time loaded = absl::Now();
  const auto profile = executor_->Profile(0.9);
  CHECK(profile.ok()) << profile.status();
  const absl::Time profiled = absl::Now();
  const absl::Status allocated = executor_->AllocateKv(
      options_.layout == CacheLayout::kRows ? options_.max_num_seqs
                                            : options_.num_blocks,
      0);
  CHECK(allocated.ok()) << allocated;
  if (!is_first()) {
    FillCache();
    return;
  }
  std::printf("weights %.1f s, profile %.1f s, cache and recordings %.1f s\n",
              absl::ToDoubleSeconds(loaded - start),
              absl::ToDoubleSeconds(profiled - loaded),
              absl::ToDoubleSeconds(absl::Now() - profiled));
  if (options_.layout == CacheLayout::kBlocks) FillCache();
}

void BenchWorker::Run(StepPlan* plan) {
  plan->identity.step_id = StepId(++step_);
  while (!executor_->MayBegin(*plan)) Finish();
  const absl::Status status = executor_->Begin(*plan);
  CHECK(status.ok()) << status;
}

void BenchWorker::Finish() {
  const absl::Status status = executor_->Finish(&result_);
  CHECK(status.ok()) << status;
}

void BenchWorker::Drain() {
  while (executor_->num_begun() > 0) Finish();
}

void BenchWorker::Admit(int32_t slot, int32_t num_tokens, int32_t num_new,
                        int32_t room, StepPlan* plan) {
  AdmittedSlot admitted;
  admitted.slot = SlotId(slot);
  admitted.sequence_id = SequenceId(++sequence_);
  admitted.num_prompt_tokens = num_tokens;
  admitted.num_computed_tokens = num_tokens - num_new;
  for (int32_t i = 0; i < num_tokens; ++i) {
    admitted.tokens.push_back(10 + static_cast<TokenId>(random_() % 30000));
  }
  admitted.sampling.temperature = 1;
  admitted.sampling.seed = sequence_;
  Place(slot, num_tokens + room, &admitted, plan);
  plan->admitted.push_back(admitted);
}

void BenchWorker::Prefill(int num_slots, int32_t num_tokens, int32_t room) {
  if (options_.layout == CacheLayout::kBlocks) return;
  const int32_t most = options_.max_num_batched_tokens;
  const int32_t at_once = std::max(1, most / num_tokens);
  for (int first = 0; first < num_slots; first += at_once) {
    StepPlan plan;
    for (int slot = first; slot < std::min(first + at_once, num_slots);
         ++slot) {
      Admit(slot, num_tokens, num_tokens, room, &plan);
      plan.chunks.push_back(
          {SlotId(slot), std::min(num_tokens, most), /*sample=*/false});
    }
    Run(&plan);
  }
  ReleaseAll(num_slots);
}

void BenchWorker::ReleaseAll(int num_slots) {
  Drain();
  StepPlan plan;
  for (int slot = 0; slot < num_slots; ++slot) {
    plan.released.push_back(SlotId(slot));
  }
  Run(&plan);
  Drain();
  next_block_ = 0;
}

void BenchWorker::Place(int32_t slot, int32_t num_tokens,
                        AdmittedSlot* admitted, StepPlan* plan) {
  if (options_.layout == CacheLayout::kTokenRows) {
    admitted->cache = CacheRowId(slot);
    plan->mappings.push_back(
        {CacheRowId(slot), (num_tokens - 1) / executor_->block_tokens() + 1});
    return;
  }
  if (options_.layout == CacheLayout::kRows) {
    admitted->cache = std::vector<BlockId>{BlockId(slot)};
    return;
  }
  std::vector<BlockId> blocks;
  for (int32_t i = 0; i * kBlockSize < num_tokens; ++i) {
    blocks.push_back(BlockId(next_block_++));
  }
  CHECK_LE(next_block_, options_.num_blocks);
  admitted->cache = blocks;
}

void BenchWorker::FillCache() {
  const int32_t chunk = options_.max_num_batched_tokens;
  StepPlan plan;
  Admit(0, kFilledTokens, kFilledTokens, 0, &plan);
  for (int32_t done = 0; done < kFilledTokens; done += chunk) {
    plan.chunks = {{SlotId(0), std::min(chunk, kFilledTokens - done), false}};
    Run(&plan);
    plan = StepPlan();
  }
  const int32_t filled = kFilledTokens / kBlockSize;
  for (int32_t i = filled; i < options_.num_blocks; ++i) {
    plan.copies.push_back({BlockId(i % filled), BlockId(i)});
  }
  Run(&plan);
  ReleaseAll(1);
}

}  // namespace quire
