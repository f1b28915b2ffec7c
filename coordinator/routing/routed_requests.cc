// SPDX-License-Identifier: Apache-2.0
#include "coordinator/routing/routed_requests.h"

#include <algorithm>

#include "glog/logging.h"

namespace quire {
namespace {

constexpr double kNewShare = 1.0 / 64;  // of a request in the average

}  // namespace

void RoutedRequests::Count(const Entry& entry, int sign) {
  Load& load = loads_[entry.group_idx];
  if (entry.has_begun) {
    load.num_decodes += sign * entry.num_seqs;
  } else {
    load.num_pending_seqs += sign * entry.num_seqs;
    load.num_pending_tokens += sign * entry.num_tokens;
  }
}

void RoutedRequests::Add(RequestKey key, const std::string& request_id,
                         int32_t group_idx, int64_t num_tokens,
                         int32_t num_seqs) {
  const Entry entry = {request_id, group_idx, num_tokens, num_seqs,
                       /*has_begun=*/false};
  CHECK(entries_.emplace(key, entry).second);
  CHECK(keys_.emplace(request_id, key).second);
  Count(entry, 1);
  ++loads_[group_idx].num_routed;
}

void RoutedRequests::Move(RequestKey key, int32_t group_idx,
                          int64_t num_tokens) {
  Entry& entry = entries_.at(key);
  Count(entry, -1);
  entry.group_idx = group_idx;
  entry.num_tokens = num_tokens;
  entry.has_begun = false;
  Count(entry, 1);
  ++loads_[group_idx].num_routed;
}

void RoutedRequests::Begin(RequestKey key) {
  const auto it = entries_.find(key);
  if (it == entries_.end() || it->second.has_begun) return;
  Count(it->second, -1);
  it->second.has_begun = true;
  Count(it->second, 1);
}

void RoutedRequests::End(RequestKey key, int32_t num_output_tokens) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return;
  const Entry& entry = it->second;
  Count(entry, -1);
  if (entry.has_begun) {
    const double num = 1.0 * num_output_tokens / std::max(1, entry.num_seqs);
    mean_output_tokens_ += kNewShare * (num - mean_output_tokens_);
  }
  keys_.erase(entry.request_id);
  entries_.erase(it);
}

std::optional<int32_t> RoutedRequests::GroupOf(RequestKey key) const {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return std::nullopt;
  return it->second.group_idx;
}

std::optional<RequestKey> RoutedRequests::Find(
    const std::string& request_id) const {
  const auto it = keys_.find(request_id);
  if (it == keys_.end()) return std::nullopt;
  return it->second;
}

}  // namespace quire
