// SPDX-License-Identifier: Apache-2.0
//
// Puts memory behind rows off the step path: a thread that maps and unmaps what
// plans say while the step before computes (vAttention, arXiv 2405.04437,
// section 6.1.1).
#ifndef WORKER_KV_PAGE_MAPPER_H_
#define WORKER_KV_PAGE_MAPPER_H_

#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/clock.h"
#include "common/step_plan.h"
#include "kernels/virtual_memory.h"

namespace quire {

// What has been done so far; only ever grows.
struct PageMapperStats {
  int64_t num_mapped_pages = 0;
  int64_t num_unmapped_pages = 0;
  absl::Duration busy;    // of the thread, mapping and unmapping
  int64_t num_waits = 0;  // Await calls that had to wait
  absl::Duration waited;
};

// Thread-safe. Rows and page groups are numbered from 0; group g of row r is
// pages [(r * row_groups + g) * group_pages, ... + group_pages).
class PageMapper {
 public:
  // Owns nothing. `memory` and `clock` must live longer, and nobody else may
  // map or unmap. REQUIRES: memory holds num_rows rows, none mapped.
  PageMapper(VirtualMemory* memory, int32_t num_rows, int32_t row_groups,
             int32_t group_pages, const Clock* clock);
  // Drops what is not done yet.
  ~PageMapper();

  // Does these after all that came before, and returns at once.
  // REQUIRES: rows and groups exist; nothing uses what they unmap.
  void Post(absl::Span<const RowMapping> mappings);

  // Waits until the row has at least so many groups and will keep them through
  // all that is posted. Internal if nothing that was posted will give it them;
  // the first failure of the device, if any.
  absl::Status Await(int32_t row, int32_t num_groups);

  // Waits until all that was posted is done, or something failed.
  absl::Status AwaitAll();

  PageMapperStats stats() const;

 private:
  void Loop();
  // The fewest groups of the row from now on until all is done.
  int32_t LeastMapped(int32_t row) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Apply(const RowMapping& mapping, int32_t num_mapped,
                     PageMapperStats* stats);

  VirtualMemory* const memory_;
  const int32_t row_groups_;
  const int32_t group_pages_;
  const Clock* const clock_;

  mutable absl::Mutex mutex_;
  // In order; the thread is at work on the first.
  std::deque<RowMapping> posted_ ABSL_GUARDED_BY(mutex_);
  bool is_stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<int32_t> mapped_ ABSL_GUARDED_BY(mutex_);  // [rows] groups
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  PageMapperStats stats_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;  // last: uses all of the above
};

}  // namespace quire

#endif  // WORKER_KV_PAGE_MAPPER_H_
