// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/parallel_rows.h"

#include <atomic>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(ParallelRowsTest, EveryRowIsWorkedOnOnce) {
  for (int64_t num_rows : {0, 1, 2, 3, 17, 1000}) {
    std::vector<std::atomic<int>> visits(static_cast<size_t>(num_rows));
    ParallelRows(num_rows, /*row_cost=*/1 << 20,
                 [&](int64_t first, int64_t last) {
                   for (int64_t row = first; row < last; ++row) ++visits[row];
                 });
    for (const auto& count : visits) EXPECT_EQ(count, 1);
  }
}

}  // namespace
}  // namespace quire
