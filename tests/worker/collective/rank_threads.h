// SPDX-License-Identifier: Apache-2.0
//
// Ranks of a collective that are threads of one test.
#ifndef TESTS_WORKER_COLLECTIVE_RANK_THREADS_H_
#define TESTS_WORKER_COLLECTIVE_RANK_THREADS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "tests/worker/collective/memory_board.h"
#include "worker/collective/collective.h"
#include "worker/collective/rank_sum.h"

namespace quire {

using RankBody = std::function<void(std::unique_ptr<Collective>)>;

// Runs `body` on every rank of a connected group, each in its own thread.
template <typename Options>
void OnEveryRank(absl::StatusOr<std::unique_ptr<Collective>> (*connect)(
                     const Options&, KeyBoard*),
                 int32_t world, const RankBody& body) {
  MemoryBoard board;
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      Options options;
      options.rank = rank;
      options.world_size = world;
      auto collective = connect(options, &board);
      ASSERT_TRUE(collective.ok()) << collective.status();
      body(*std::move(collective));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Numbers whose float sum depends on the order of adding.
inline std::vector<float> Unordered(int32_t rank, int64_t n) {
  std::mt19937 random(rank * 7919 + n);
  std::normal_distribution<float> normal(0, 1000);
  std::vector<float> data(n);
  for (float& x : data) x = normal(random);
  return data;
}

// Adds `n` such numbers of every rank, and expects the sum in rank order.
inline void ExpectSumInRankOrder(Collective& ranks, int32_t world, int64_t n) {
  std::vector<std::vector<float>> inputs;
  std::vector<const void*> sources;
  for (int32_t rank = 0; rank < world; ++rank) {
    inputs.push_back(Unordered(rank, n));
  }
  for (const auto& input : inputs) sources.push_back(input.data());
  std::vector<float> expected(n);
  SumInRankOrder(sources, expected.data(), n, DType::kF32);
  std::vector<float> data = inputs[ranks.rank()];
  const absl::Status status = ranks.AllReduceSum(data.data(), n, DType::kF32);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(data, expected) << "world " << world << ", " << n << " elements";
}

}  // namespace quire

#endif  // TESTS_WORKER_COLLECTIVE_RANK_THREADS_H_
