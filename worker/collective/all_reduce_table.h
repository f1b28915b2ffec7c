// SPDX-License-Identifier: Apache-2.0
//
// Which way of adding up over GPUs is fastest for a message, as measured when
// the group was connected.
#ifndef WORKER_COLLECTIVE_ALL_REDUCE_TABLE_H_
#define WORKER_COLLECTIVE_ALL_REDUCE_TABLE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace quire {

enum class AllReduceWay { kOneShot, kTwoShot, kLibrary };
inline constexpr int32_t kNumAllReduceWays = 3;

// What the ways took for a message; infinity for those there are not.
struct AllReduceTimes {
  int64_t bytes;
  std::array<double, kNumAllReduceWays> seconds;  // by AllReduceWay
};

// As in "64 KB 3.5/4.4/-", in microseconds.
std::string ToString(const AllReduceTimes& times);

// Immutable. Equal times make equal tables, so ranks that agree on the times
// agree on each message's way.
class AllReduceTable {
 public:
  // One shot for all: before anything is measured.
  AllReduceTable() = default;
  // Takes the fastest way of each size for the messages from there on, up to
  // the next size; the smallest size's also below. A way changes only where
  // another is faster by kMargin, so that noise leaves no holes.
  // REQUIRES: `times` ascend by bytes; each has a finite one.
  explicit AllReduceTable(absl::Span<const AllReduceTimes> times);

  AllReduceWay WayFor(int64_t bytes) const;

  static constexpr double kMargin = 0.03;

 private:
  struct Step {
    int64_t from_bytes;
    AllReduceWay way;
  };
  std::vector<Step> steps_;
};

// One piece of a message that is too long for one call.
struct MessagePiece {
  int64_t first;  // element
  int64_t size;   // elements
};

// A message of `num_elements` in as few pieces as have at most `max_elements`,
// all but the last of whole `lanes` and as equal as that allows.
// REQUIRES: max_elements >= lanes >= 1.
std::vector<MessagePiece> PiecesOf(int64_t num_elements, int64_t max_elements,
                                   int64_t lanes);

}  // namespace quire

#endif  // WORKER_COLLECTIVE_ALL_REDUCE_TABLE_H_
