// SPDX-License-Identifier: Apache-2.0
//
// Double-precision reference of page selection (Quest, arXiv 2406.10774): which
// pages one token's query heads of one KV head read.
#ifndef TESTS_REFERENCE_PAGE_SELECT_H_
#define TESTS_REFERENCE_PAGE_SELECT_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace quire::reference {

struct PageSelection {
  std::vector<int32_t> pages;  // ascending
  // By how much the worst page that was chosen by its bound beats the best one
  // that was not: an error of half of it could choose another.
  double margin = std::numeric_limits<double>::infinity();
};

// The largest score that any of the queries could have with any key between the
// least and the greatest of `keys`, channel by channel; unscaled.
inline double PageBound(const std::vector<std::vector<double>>& queries,
                        const std::vector<std::vector<double>>& keys) {
  double most = -std::numeric_limits<double>::infinity();
  for (const std::vector<double>& q : queries) {
    double sum = 0.0;
    for (size_t c = 0; c < q.size(); ++c) {
      double least = keys[0][c], greatest = keys[0][c];
      for (const std::vector<double>& key : keys) {
        least = std::min(least, key[c]);
        greatest = std::max(greatest, key[c]);
      }
      sum += std::max(q[c] * least, q[c] * greatest);
    }
    most = std::max(most, sum);
  }
  return most;
}

// keys: one [head_dim] row per position up to and with the token's own. The
// first page and the last two are read; the rest of num_pages by bound.
// REQUIRES: the keys fill more than num_pages > 3 pages.
inline PageSelection SelectPages(
    const std::vector<std::vector<double>>& queries,
    const std::vector<std::vector<double>>& keys, int32_t page_size,
    int32_t num_pages) {
  const int32_t own = (static_cast<int32_t>(keys.size()) - 1) / page_size;
  std::vector<std::pair<double, int32_t>> ranked;  // (-bound, page)
  for (int32_t page = 1; page < own - 1; ++page) {
    const auto begin = keys.begin() + page * page_size;
    ranked.emplace_back(-PageBound(queries, {begin, begin + page_size}), page);
  }
  std::sort(ranked.begin(), ranked.end());
  const size_t num_chosen = num_pages - 3;
  PageSelection selection;
  selection.pages = {0, own - 1, own};
  for (size_t i = 0; i < num_chosen; ++i) {
    selection.pages.push_back(ranked[i].second);
  }
  std::sort(selection.pages.begin(), selection.pages.end());
  if (num_chosen < ranked.size()) {
    selection.margin = ranked[num_chosen].first - ranked[num_chosen - 1].first;
  }
  return selection;
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_PAGE_SELECT_H_
