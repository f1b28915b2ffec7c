// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/all_reduce_table.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

namespace quire {

std::string ToString(const AllReduceTimes& times) {
  return absl::StrCat(
      times.bytes >> 10, " KB ",
      absl::StrJoin(times.seconds, "/", [](std::string* out, double seconds) {
        if (std::isfinite(seconds)) {
          absl::StrAppendFormat(out, "%.1f", seconds * 1e6);
        } else {
          out->push_back('-');
        }
      }));
}

AllReduceTable::AllReduceTable(absl::Span<const AllReduceTimes> times) {
  for (const AllReduceTimes& row : times) {
    const auto fastest =
        std::min_element(row.seconds.begin(), row.seconds.end());
    CHECK(std::isfinite(*fastest)) << row.bytes;
    auto way = static_cast<AllReduceWay>(fastest - row.seconds.begin());
    if (!steps_.empty()) {
      CHECK_GT(row.bytes, times.front().bytes);
      const AllReduceWay last = steps_.back().way;
      const double kept = row.seconds[static_cast<int>(last)];
      if (way == last || kept <= *fastest * (1 + kMargin)) continue;
    }
    steps_.push_back({row.bytes, way});
  }
}

AllReduceWay AllReduceTable::WayFor(int64_t bytes) const {
  AllReduceWay way =
      steps_.empty() ? AllReduceWay::kOneShot : steps_.front().way;
  for (const Step& step : steps_) {
    if (bytes >= step.from_bytes) way = step.way;
  }
  return way;
}

std::vector<MessagePiece> PiecesOf(int64_t num_elements, int64_t max_elements,
                                   int64_t lanes) {
  CHECK_GE(max_elements, lanes);
  std::vector<MessagePiece> pieces;
  if (num_elements <= 0) return pieces;
  const int64_t most = max_elements / lanes * lanes;
  const int64_t count = (num_elements + most - 1) / most;
  const int64_t each =
      ((num_elements + count - 1) / count + lanes - 1) / lanes * lanes;
  for (int64_t first = 0; first < num_elements; first += each) {
    pieces.push_back({first, std::min(each, num_elements - first)});
  }
  return pieces;
}

}  // namespace quire
