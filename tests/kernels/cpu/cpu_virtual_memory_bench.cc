// SPDX-License-Identifier: Apache-2.0
//
// What it costs to put memory behind a page and to take it away.
//
//   bazel run --config=opt //tests/kernels/cpu:cpu_virtual_memory_bench
#include "benchmark/benchmark.h"
#include "kernels/cpu/cpu_virtual_memory.h"

namespace quire {
namespace {

constexpr int64_t kPages = 64;

// Pages one by one, as rows grow.
void Map(benchmark::State& state) {
  const int64_t page_bytes = state.range(0);
  const auto memory =
      *CpuVirtualMemory::Reserve({.reserved_bytes = kPages * page_bytes,
                                  .page_bytes = page_bytes,
                                  .num_pages = kPages});
  for (auto _ : state) {
    for (int64_t page = 0; page < kPages; ++page) {
      benchmark::DoNotOptimize(memory->Map(page, 1).ok());
    }
    state.PauseTiming();
    benchmark::DoNotOptimize(memory->Unmap(0, kPages).ok());
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * kPages);
  state.SetBytesProcessed(state.iterations() * kPages * page_bytes);
}
BENCHMARK(Map)->Arg(4 << 10)->Arg(64 << 10)->Arg(2 << 20);

void Unmap(benchmark::State& state) {
  const int64_t page_bytes = state.range(0);
  const auto memory =
      *CpuVirtualMemory::Reserve({.reserved_bytes = kPages * page_bytes,
                                  .page_bytes = page_bytes,
                                  .num_pages = kPages});
  for (auto _ : state) {
    state.PauseTiming();
    benchmark::DoNotOptimize(memory->Map(0, kPages).ok());
    state.ResumeTiming();
    for (int64_t page = kPages - 1; page >= 0; --page) {
      benchmark::DoNotOptimize(memory->Unmap(page, 1).ok());
    }
  }
  state.SetItemsProcessed(state.iterations() * kPages);
}
BENCHMARK(Unmap)->Arg(4 << 10)->Arg(64 << 10)->Arg(2 << 20);

}  // namespace
}  // namespace quire
