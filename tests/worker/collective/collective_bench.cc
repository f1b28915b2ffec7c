// SPDX-License-Identifier: Apache-2.0
//
// What an all-reduce between two ranks of this machine costs, by transport:
// the time of rank 0 while rank 1 does the same in a thread.
#include <thread>
#include <vector>

#include "benchmark/benchmark.h"
#include "glog/logging.h"
#include "tests/worker/collective/memory_board.h"
#include "worker/collective/registry.h"

namespace quire {
namespace {

std::unique_ptr<Collective> Connect(const char* name, int32_t rank,
                                    KeyBoard* board) {
  CollectiveOptions options;
  options.rank = rank;
  options.world_size = 2;
  options.num_local_ranks = 2;
  auto collective = CreateCollective(name, options, board);
  CHECK(collective.ok()) << collective.status();
  return *std::move(collective);
}

void AllReduce(benchmark::State& state, const char* name) {
  const int64_t num_elements = state.range(0) / sizeof(float);
  MemoryBoard board;
  // The first element says whether to go on.
  std::thread peer([&] {
    const auto ranks = Connect(name, 1, &board);
    std::vector<float> data(num_elements);
    do {
      data.assign(num_elements, 0);
      CHECK(ranks->AllReduceSum(data.data(), num_elements, DType::kF32).ok());
    } while (data[0] == 0);
  });
  const auto ranks = Connect(name, 0, &board);
  std::vector<float> data(num_elements);
  for (auto _ : state) {
    data[0] = 0;
    CHECK(ranks->AllReduceSum(data.data(), num_elements, DType::kF32).ok());
  }
  data[0] = 1;
  CHECK(ranks->AllReduceSum(data.data(), num_elements, DType::kF32).ok());
  peer.join();
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK_CAPTURE(AllReduce, gloo, "gloo")
    ->Arg(1 << 10)
    ->Arg(64 << 10)
    ->Arg(4 << 20)
    ->UseRealTime();
BENCHMARK_CAPTURE(AllReduce, shm, "shm")
    ->Arg(1 << 10)
    ->Arg(64 << 10)
    ->Arg(4 << 20)
    ->UseRealTime();

}  // namespace
}  // namespace quire
