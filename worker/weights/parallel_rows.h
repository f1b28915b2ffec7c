// SPDX-License-Identifier: Apache-2.0
//
// Splits work on the rows of a matrix over the machine's cores; for loading,
// where nothing else runs yet.
#ifndef WORKER_WEIGHTS_PARALLEL_ROWS_H_
#define WORKER_WEIGHTS_PARALLEL_ROWS_H_

#include <cstdint>
#include <functional>

namespace quire {

// Calls `work(first, last)` for parts of [0, num_rows) that cover it, on
// several threads if it pays, and returns once all are done. `row_cost` is the
// number of elements in a row.
void ParallelRows(int64_t num_rows, int64_t row_cost,
                  const std::function<void(int64_t first, int64_t last)>& work);

}  // namespace quire

#endif  // WORKER_WEIGHTS_PARALLEL_ROWS_H_
