// SPDX-License-Identifier: Apache-2.0
//
// What tenants are entitled to, as a file says it:
//
//   {
//     "tenants": [
//       {"name": "search", "weight": 2, "guaranteed_kv": 0.25},
//       {"name": "batch", "max_kv": 0.5, "priority": 3}
//     ],
//     "default": {"weight": 1, "max_kv": 0.5},
//     "max_tracked": 1024, "idle_expiry_s": 600,
//     "prompt_token_cost": 1, "output_token_cost": 2, "burst_tokens": 8192
//   }
//
// Shares of KV memory are fractions of the pool (guaranteed_kv, max_kv) or
// blocks (guaranteed_blocks, max_blocks). A tenant that is not listed is
// entitled to what "default" says; that cannot be a guarantee, because nobody
// knows how many such tenants there are.
#ifndef COORDINATOR_ENGINE_TENANT_CONFIG_H_
#define COORDINATOR_ENGINE_TENANT_CONFIG_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace quire {

struct TenantLimits {
  double weight = 1;               // [0.001, 1000]: share of the work
  double guaranteed_kv = 0;        // [0, 1], of the pool
  double max_kv = 1;               // (0, 1], of the pool
  int32_t guaranteed_blocks = -1;  // >= 0: instead of guaranteed_kv
  int32_t max_blocks = -1;         // >= 1: instead of max_kv
  int32_t priority = 0;            // added to that of its requests

  bool has_quota() const {
    return guaranteed_kv > 0 || max_kv < 1 || guaranteed_blocks > 0 ||
           max_blocks >= 0;
  }
  // Of a pool of `num_blocks`.
  int32_t GuaranteedBlocks(int32_t num_blocks) const;
  int32_t MaxBlocks(int32_t num_blocks) const;
};

struct TenantConfig {
  std::map<std::string, TenantLimits> tenants;  // by name
  TenantLimits unlisted;
  // Tenants known at a time, idle ones included. More share one account.
  int32_t max_tracked = 1024;
  // An idle tenant's account is closed after this.
  absl::Duration idle_expiry = absl::Minutes(10);
  double prompt_token_cost = 1;  // (0, 1000], of a computed prompt token
  double output_token_cost = 2;  // (0, 1000], of an output token
  // What a tenant that took less than its share may be behind those that wait
  // when it begins to wait itself, in prompt tokens at weight 1: so much it
  // gets ahead of everyone. VTC has 0.
  int32_t burst_tokens = 8192;

  // Makes them those of one of `num_groups` groups: limits in blocks become
  // that part of themselves, guarantees rounded down and limits up. Fractions
  // stay: they are of every group's pool, and so of all.
  void DivideBlocks(int32_t num_groups);

  // The entry of `name`, or the default one.
  const TenantLimits& Of(const std::string& name) const;
};

// InvalidArgument names `file`, the field, what it is and what was expected.
absl::StatusOr<TenantConfig> ParseTenantConfig(absl::string_view json,
                                               const std::string& file);

// Reads and parses `path`. NotFound if it cannot be read.
absl::StatusOr<TenantConfig> ReadTenantConfig(const std::string& path);

}  // namespace quire

#endif  // COORDINATOR_ENGINE_TENANT_CONFIG_H_
