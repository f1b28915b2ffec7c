// SPDX-License-Identifier: Apache-2.0
//
// bazel run --config=opt //tests/coordinator/kv:block_pool_bench
#include <algorithm>
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "coordinator/kv/block_pool.h"

namespace quire {
namespace {

constexpr int32_t kNumBlocks = 65536;

// One block at a time, as growing sequences take them, from a pool that many
// holders have shuffled.
void BM_AllocateAndFreeOne(benchmark::State& state) {
  BlockPool pool(kNumBlocks);
  std::vector<BlockId> held;
  while (pool.num_free() > 0) held.push_back(pool.AllocateOne());
  std::shuffle(held.begin(), held.end(), std::mt19937(1));
  for (int32_t i = 0; i < kNumBlocks / 2; ++i) {
    pool.Unref(held.back());
    held.pop_back();
  }
  // A ring: what is freed was taken long ago, by someone else.
  size_t oldest = 0;
  for (auto _ : state) {
    const BlockId block = pool.AllocateOne();
    pool.Unref(held[oldest]);
    held[oldest] = block;
    if (++oldest == held.size()) oldest = 0;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_AllocateAndFreeOne);

// A sequence's worth at once.
void BM_AllocateAndFreeMany(benchmark::State& state) {
  const int32_t num_blocks = static_cast<int32_t>(state.range(0));
  BlockPool pool(kNumBlocks);
  std::vector<BlockId> blocks;
  for (auto _ : state) {
    blocks.clear();
    benchmark::DoNotOptimize(pool.Allocate(num_blocks, &blocks));
    for (BlockId block : blocks) pool.Unref(block);
  }
  state.SetItemsProcessed(state.iterations() * num_blocks);
}
BENCHMARK(BM_AllocateAndFreeMany)->Arg(1)->Arg(16)->Arg(128);

}  // namespace
}  // namespace quire
