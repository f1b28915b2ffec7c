// SPDX-License-Identifier: Apache-2.0
//
// How a rank reaches its peers, for operators.
#ifndef WORKER_EXECUTOR_RANK_LINKS_H_
#define WORKER_EXECUTOR_RANK_LINKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "kernels/backend.h"
#include "worker/collective/collective.h"

namespace quire {

struct AllReduceTime {
  int64_t bytes = 0;
  double us = 0;
};

struct RankLinks {
  std::string collective;                 // Collective::name(); of one: empty
  std::vector<std::string> links;         // Collective::links()
  std::vector<AllReduceTime> all_reduce;  // by size
};

// Times sums of some sizes, which takes milliseconds; every rank calls it.
// `is_recorded`: as steps' are (Backend::Record), else one by one.
absl::StatusOr<RankLinks> MeasureLinks(Backend* backend, Collective* collective,
                                       bool is_recorded, const Clock& clock);

}  // namespace quire

#endif  // WORKER_EXECUTOR_RANK_LINKS_H_
