// SPDX-License-Identifier: Apache-2.0
//
// Attention of one layer of a Llama-3.2-1B (32 query heads, 8 KV heads of 64)
// in bfloat16: decode beside the memory's read bandwidth, a prefill of 512 as
// arithmetic. Every round reads a cache too large for the processor's own.
//
//   bazel run --config=opt //tests/kernels/cpu:attention_bench -- [threads]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

#include "glog/logging.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/host_limits.h"
#include "kernels/cpu/thread_team.h"
#include "tests/kernels/cpu/measure.h"

namespace quire {
namespace {

constexpr KvLayout kLayout = {16, 8, 64, 16, DType::kBf16};
constexpr int32_t kNumQHeads = 32;
constexpr int32_t kRow = kNumQHeads * 64;

struct Step {
  int32_t num_seqs;
  int32_t context;
  int32_t new_tokens;  // of each sequence
};

// The best of several runs over all layers, per layer, in seconds.
double TimeStep(Backend* backend, const Step& step) {
  const int32_t blocks_per_seq = (step.context + 15) / 16;
  const int32_t num_blocks = step.num_seqs * blocks_per_seq;
  auto cache = backend->Allocate(num_blocks * kLayout.BlockBytes());
  CHECK(cache.ok()) << cache.status();
  Bf16* const elements = (*cache)->as<Bf16>();
  std::fill(elements, elements + num_blocks * kLayout.BlockStride(),
            ToBf16(0.25f));
  std::vector<int32_t> tables(num_blocks), slots(step.num_seqs),
      starts(step.num_seqs + 1), contexts(step.num_seqs, step.context);
  std::iota(tables.begin(), tables.end(), 0);
  std::shuffle(tables.begin(), tables.end(), std::mt19937(1));
  std::iota(slots.begin(), slots.end(), 0);
  for (int32_t i = 0; i <= step.num_seqs; ++i) starts[i] = i * step.new_tokens;
  const std::vector<Bf16> q = RandomBf16(int64_t{starts.back()} * kRow);
  std::vector<Bf16> out(q.size());
  AttentionParams params = {};
  params.q = q.data();
  params.q_stride = kRow;
  params.out = out.data();
  params.block_tables = tables.data();
  params.seq_slots = slots.data();
  params.query_start = starts.data();
  params.context_lens = contexts.data();
  params.max_blocks_per_seq = blocks_per_seq;
  params.num_seqs = step.num_seqs;
  params.num_tokens = starts.back();
  params.num_q_heads = kNumQHeads;
  params.scale = 0.125f;
  double best = 1e9;
  for (int round = 0; round < 5; ++round) {
    best = std::min(best, Seconds([&] {
                      for (int32_t layer = 0; layer < 16; ++layer) {
                        params.cache = {elements, kLayout, layer, num_blocks};
                        CHECK(backend->Attention(params).ok());
                      }
                    }));
  }
  return best / kLayout.num_layers;
}

void Bench(int threads) {
  auto backend =
      CpuBackend::Create({.dtype = DType::kBf16, .num_threads = threads});
  CHECK(backend.ok()) << backend.status();
  const std::vector<uint64_t> gibibyte((1 << 30) / 8, 1);
  double read = 0;
  for (int round = 0; round < 3; ++round) {
    read = std::max(read, ReadBandwidth(ThreadTeam(threads), gibibyte));
  }
  std::printf("%d threads, read %.1f GB/s\n", threads, read * 1e-9);
  for (const Step& step : {Step{1, 128, 1},
                           {1, 2048, 1},
                           {1, 16384, 1},
                           {8, 192, 1},
                           {32, 192, 1},
                           {32, 2048, 1}}) {
    const double seconds = TimeStep(backend->get(), step);
    // Keys and values of 8 heads of 64, 2 bytes each.
    const double rate =
        step.num_seqs * step.context * 2.0 * 8 * 64 * 2 / seconds;
    std::printf(
        "decode %2d x %5d: %8.1f us a layer, %5.1f GB/s, %.2f of read\n",
        step.num_seqs, step.context, seconds * 1e6, rate * 1e-9, rate / read);
  }
  for (const Step& step : {Step{1, 512, 512}, {1, 4096, 512}}) {
    const double seconds = TimeStep(backend->get(), step);
    const double pairs =
        step.new_tokens * (step.context - (step.new_tokens - 1) / 2.0);
    std::printf("prefill %d up to %5d: %8.1f us a layer, %6.1f GFLOP/s\n",
                step.new_tokens, step.context, seconds * 1e6,
                pairs * kRow * 4 / seconds * 1e-9);
  }
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  quire::Bench(argc > 1 ? std::atoi(argv[1]) : quire::NumUsableCpus());
  return 0;
}
