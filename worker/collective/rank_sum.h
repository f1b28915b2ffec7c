// SPDX-License-Identifier: Apache-2.0
//
// The one addition that every collective uses, so that they all give the same
// bits.
#ifndef WORKER_COLLECTIVE_RANK_SUM_H_
#define WORKER_COLLECTIVE_RANK_SUM_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/dtype.h"

namespace quire {

// out[i] = sources[0][i] + sources[1][i] + ..., in that order, in float and
// rounded once. `out` may be one of the sources, if exactly so.
void SumInRankOrder(absl::Span<const void* const> sources, void* out,
                    int64_t num_elements, DType dtype);

// The elements of an all-reduce that rank `part` of `num_parts` adds up:
// [begin, end), equal runs of whole cache lines but for the last.
struct RankPart {
  int64_t begin;
  int64_t end;
  int64_t size() const { return end - begin; }
};
RankPart PartOf(int64_t num_elements, int32_t part, int32_t num_parts);

}  // namespace quire

#endif  // WORKER_COLLECTIVE_RANK_SUM_H_
