// SPDX-License-Identifier: Apache-2.0
//
// Which request is where, and what each group has before it of those that were
// sent there.
#ifndef COORDINATOR_ROUTING_ROUTED_REQUESTS_H_
#define COORDINATOR_ROUTING_ROUTED_REQUESTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/ids.h"

namespace quire {

// Thread-compatible.
class RoutedRequests {
 public:
  // Of a group; see GroupLoad.
  struct Load {
    int32_t num_decodes = 0;
    int32_t num_pending_seqs = 0;
    int64_t num_pending_tokens = 0;
    int64_t num_routed = 0;
  };

  // What a sequence is taken to sample before any has ended.
  static constexpr double kFirstMeanOutputTokens = 128;

  // REQUIRES: num_groups > 0.
  explicit RoutedRequests(int32_t num_groups) : loads_(num_groups) {}

  // The request is sent to the group, which has `num_tokens` of its prompt to
  // compute. REQUIRES: neither key nor id is here.
  void Add(RequestKey key, const std::string& request_id, int32_t group_idx,
           int64_t num_tokens, int32_t num_seqs);
  // Likewise to another group. REQUIRES: it is here.
  void Move(RequestKey key, int32_t group_idx, int64_t num_tokens);
  // Its first token has come. Nothing if it had, or is not here.
  void Begin(RequestKey key);
  // It is no more; `num_output_tokens` were sampled. Nothing if not here.
  void End(RequestKey key, int32_t num_output_tokens);

  // Nothing if it is not here.
  std::optional<int32_t> GroupOf(RequestKey key) const;
  std::optional<RequestKey> Find(const std::string& request_id) const;

  const Load& load(int32_t group_idx) const { return loads_[group_idx]; }
  // Of a sequence: a moving average over the requests that have ended.
  double mean_output_tokens() const { return mean_output_tokens_; }

 private:
  struct Entry {
    std::string request_id;
    int32_t group_idx = 0;
    int64_t num_tokens = 0;
    int32_t num_seqs = 0;
    bool has_begun = false;
  };
  // Adds the entry's work to its group's, or with -1 takes it away.
  void Count(const Entry& entry, int sign);

  std::vector<Load> loads_;
  double mean_output_tokens_ = kFirstMeanOutputTokens;
  absl::flat_hash_map<RequestKey, Entry> entries_;
  absl::flat_hash_map<std::string, RequestKey> keys_;
};

}  // namespace quire

#endif  // COORDINATOR_ROUTING_ROUTED_REQUESTS_H_
