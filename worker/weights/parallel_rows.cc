// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/parallel_rows.h"

#include <algorithm>
#include <thread>
#include <vector>

namespace quire {

void ParallelRows(
    int64_t num_rows, int64_t row_cost,
    const std::function<void(int64_t first, int64_t last)>& work) {
  // Below this many elements a thread takes longer to start than to work.
  constexpr int64_t kMinElementsPerThread = 1 << 18;
  const int64_t useful = num_rows * row_cost / kMinElementsPerThread;
  const int64_t num_threads = std::clamp<int64_t>(
      std::min(useful, num_rows), 1,
      std::max<int64_t>(1, std::thread::hardware_concurrency()));
  std::vector<std::thread> threads;
  for (int64_t i = 1; i < num_threads; ++i) {
    threads.emplace_back(work, num_rows * i / num_threads,
                         num_rows * (i + 1) / num_threads);
  }
  work(0, num_rows / num_threads);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace quire
