// SPDX-License-Identifier: Apache-2.0
//
// A paged manager and sequences that compute and publish all that they have.
#ifndef TESTS_COORDINATOR_KV_PAGED_MANAGER_WORLD_H_
#define TESTS_COORDINATOR_KV_PAGED_MANAGER_WORLD_H_

#include <cstdint>
#include <memory>
#include <numeric>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "common/step_plan.h"
#include "coordinator/kv/paged_manager.h"
#include "gtest/gtest.h"

namespace quire {

inline constexpr int32_t kPagedBlockSize = 4;
inline constexpr CacheScope kScope = 7;

inline std::vector<TokenId> Tokens(int32_t n, TokenId first = 100) {
  std::vector<TokenId> tokens(n);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

struct Admitted {
  absl::Status status;
  int32_t num_computed = 0;
  std::vector<BlockId> blocks;
  StepPlan plan;
};

// A manager whose sequences have the slot's number.
class PagedManagerWorld : public testing::Test {
 protected:
  void Make(int32_t num_blocks, int32_t num_host_blocks = 0,
            bool demote_prefixes = false) {
    manager_ = std::make_unique<PagedManager>(
        KvOptions{.num_blocks = num_blocks,
                  .block_size = kPagedBlockSize,
                  .max_num_seqs = 8,
                  .max_model_len = 256,
                  .num_host_blocks = num_host_blocks,
                  .demote_prefixes = demote_prefixes,
                  .prefix_hash_key = {1, 2}});
  }
  void TearDown() override {
    EXPECT_EQ(manager_->CheckInvariants(), absl::OkStatus());
  }

  KvAdmission Admission(int32_t slot, const std::vector<TokenId>& tokens,
                        CacheScope scope = kScope) const {
    return {.sequence_id = SequenceId(slot),
            .tokens = tokens,
            .num_new_tokens = static_cast<int32_t>(tokens.size()),
            .max_num_tokens = 256,
            .scope = scope};
  }
  // Computes all the tokens and publishes them.
  Admitted Admit(int32_t slot, const std::vector<TokenId>& tokens,
                 CacheScope scope = kScope) {
    Admitted result;
    AdmittedSlot admitted;
    result.status = manager_->Admit(
        SlotId(slot), Admission(slot, tokens, scope), &admitted, &result.plan);
    if (!result.status.ok()) return result;
    result.num_computed = admitted.num_computed_tokens;
    result.blocks = std::get<std::vector<BlockId>>(admitted.cache);
    manager_->Publish(SlotId(slot), tokens,
                      static_cast<int32_t>(tokens.size()));
    return result;
  }
  void Park(int32_t slot, int32_t num_computed, ParkMode mode) {
    manager_->Park(SlotId(slot), SequenceId(slot), num_computed, mode);
  }
  void ExpectFree(int32_t num_free, int32_t num_cached) {
    EXPECT_EQ(manager_->Usage().num_free, num_free);
    EXPECT_EQ(manager_->Usage().num_cached, num_cached);
  }

  std::unique_ptr<PagedManager> manager_;
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_KV_PAGED_MANAGER_WORLD_H_
