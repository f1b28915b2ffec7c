// SPDX-License-Identifier: Apache-2.0
//
// bazel run --config=opt //tests/coordinator/kv:paged_manager_bench
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "coordinator/kv/paged_manager.h"
#include "coordinator/kv/prefix_index.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 16;
constexpr int32_t kNumBlocks = 65536;

std::vector<TokenId> RandomTokens(int32_t n, std::mt19937* random) {
  std::vector<TokenId> tokens(n);
  for (TokenId& token : tokens) token = (*random)() % 128000;
  return tokens;
}

// An index full of prompts of `num_blocks` blocks.
class FullIndex {
 public:
  explicit FullIndex(int32_t num_blocks)
      : num_blocks_(num_blocks), index_(kBlockSize, kNumBlocks, {1, 2}) {
    for (int32_t i = 0; i < kNumBlocks / num_blocks; ++i) {
      prompts_.push_back(RandomTokens(num_blocks * kBlockSize, &random_));
      PrefixNodeId node = PrefixIndex::kNoNode;
      for (int32_t idx = 0; idx < num_blocks; ++idx) {
        const PrefixNodeId next =
            index_.FindOrInsert(1, node, Block(prompts_.back(), idx));
        index_.SetPlace(next, BlockPlace(BlockId(i * num_blocks + idx)));
        index_.Unpin(next);
        node = next;
      }
    }
  }

  // Finds every block of any prompt, one after another.
  PrefixNodeId Walk() {
    const std::vector<TokenId>& prompt = prompts_[random_() % prompts_.size()];
    PrefixNodeId node = PrefixIndex::kNoNode;
    for (int32_t idx = 0; idx < num_blocks_; ++idx) {
      node = index_.Find(1, node, Block(prompt, idx));
    }
    return node;
  }

 private:
  static absl::Span<const TokenId> Block(const std::vector<TokenId>& tokens,
                                         int32_t idx) {
    return {&tokens[idx * kBlockSize], kBlockSize};
  }

  const int32_t num_blocks_;
  std::mt19937 random_{1};
  PrefixIndex index_;
  std::vector<std::vector<TokenId>> prompts_;
};

// An item is a block. Prompts of one block are found by their keys; of others,
// only the first block is.
void BM_PrefixLookup(benchmark::State& state) {
  FullIndex index(static_cast<int32_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(index.Walk());
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_PrefixLookup)->Arg(1)->Arg(16)->Arg(128);

KvOptions Options(int32_t num_blocks) {
  return {.num_blocks = num_blocks,
          .block_size = kBlockSize,
          .max_num_seqs = 8,
          .max_model_len = 4096,
          .num_host_blocks = 1024,
          .prefix_hash_key = {1, 2}};
}

// A sequence's life: admission, publication of all its blocks, release. An item
// is a block.
void RunLives(benchmark::State& state, int32_t num_blocks, CacheScope scope,
              int32_t num_prompts) {
  constexpr int32_t kLength = 1024;  // tokens
  std::mt19937 random(1);
  std::vector<std::vector<TokenId>> prompts;
  for (int32_t i = 0; i < num_prompts; ++i) {
    prompts.push_back(RandomTokens(kLength, &random));
  }
  PagedManager manager(Options(num_blocks));
  uint64_t id = 0;
  AdmittedSlot admitted;
  StepPlan plan;
  for (auto _ : state) {
    const std::vector<TokenId>& tokens = prompts[++id % num_prompts];
    plan.swap_outs.clear();
    const KvAdmission admission = {.sequence_id = SequenceId(id),
                                   .tokens = tokens,
                                   .num_new_tokens = kLength,
                                   .max_num_tokens = kLength,
                                   .scope = scope};
    benchmark::DoNotOptimize(
        manager.Admit(SlotId(0), admission, &admitted, &plan));
    manager.Publish(SlotId(0), tokens, kLength);
    manager.Release(SlotId(0));
  }
  state.SetItemsProcessed(state.iterations() * kLength / kBlockSize);
}

void BM_LifeWithoutCache(benchmark::State& state) {
  RunLives(state, kNumBlocks, /*scope=*/0, /*num_prompts=*/64);
}
BENCHMARK(BM_LifeWithoutCache);

// Everything but the last block is found.
void BM_LifeOfAKnownPrompt(benchmark::State& state) {
  RunLives(state, kNumBlocks, /*scope=*/1, /*num_prompts=*/64);
}
BENCHMARK(BM_LifeOfAKnownPrompt);

// Nothing is found, every block evicts another.
void BM_LifeOfANewPrompt(benchmark::State& state) {
  RunLives(state, /*num_blocks=*/2048, /*scope=*/1, /*num_prompts=*/64);
}
BENCHMARK(BM_LifeOfANewPrompt);

// A sequence of 64 blocks goes to the host and comes back, because another
// needs the pool. An item is a block moved, either way.
void BM_SwapOutAndIn(benchmark::State& state) {
  constexpr int32_t kLength = 1024;
  std::mt19937 random(1);
  const std::vector<TokenId> tokens = RandomTokens(kLength + 1, &random);
  PagedManager manager(Options(/*num_blocks=*/80));
  AdmittedSlot admitted;
  StepPlan plan;
  const auto admit = [&](int32_t slot) {
    plan.swap_outs.clear();
    plan.swap_ins.clear();
    CHECK(manager
              .Admit(SlotId(slot),
                     {.sequence_id = SequenceId(slot),
                      .tokens = tokens,
                      .num_new_tokens = kLength,
                      .max_num_tokens = 2048},
                     &admitted, &plan)
              .ok());
  };
  int32_t slot = 0;
  admit(slot);
  int64_t num_moved = 0;
  for (auto _ : state) {
    manager.Park(SlotId(slot), SequenceId(slot), kLength, ParkMode::kSwap);
    slot = 1 - slot;
    admit(slot);
    num_moved += plan.swap_outs.size() + plan.swap_ins.size();
  }
  state.SetItemsProcessed(num_moved);
}
BENCHMARK(BM_SwapOutAndIn);

}  // namespace
}  // namespace quire
