// SPDX-License-Identifier: Apache-2.0
//
// One run of random use; see kv_property.h.
#ifndef TESTS_COORDINATOR_KV_KV_PROPERTY_RUN_H_
#define TESTS_COORDINATOR_KV_KV_PROPERTY_RUN_H_

#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/kv/kv_manager.h"
#include "tests/coordinator/kv/kv_mirror.h"
#include "tests/coordinator/kv/kv_property.h"

namespace quire {

// A sequence as the model knows it.
struct KvPropertySequence {
  SequenceId id;
  CacheScope scope = 0;
  uint64_t salt = 0;             // whose contents these are
  int32_t family = 0;            // forks of one sequence
  int32_t window = 0;            // tokens that one may see; 0: all
  std::vector<TokenId> tokens;   // all that it will ever have
  std::vector<uint64_t> values;  // the contents of their places
  int32_t num_known = 0;
  int32_t num_computed = 0;
  int32_t num_dropped = 0;    // blocks behind the window
  int32_t num_published = 0;  // blocks
  bool is_touched = false;    // by the plan being made
  // Parked, and a sibling has come back to write where its contents may be.
  bool may_lose = false;
};

class KvPropertyRun {
 public:
  KvPropertyRun(const KvPropertyCase& property, KvManager* manager,
                uint32_t seed);

  // Until so many operations are done, then to the end.
  absl::Status Steps(int64_t num_operations);

 private:
  using Prefix = std::pair<CacheScope, std::vector<TokenId>>;

  int32_t Pick(int32_t n) { return random_() % n; }
  int32_t BlocksFor(int32_t num_tokens) const {
    return (num_tokens + block_size_ - 1) / block_size_;
  }
  int32_t NumAvailable() const {
    const KvUsage usage = manager_.Usage();
    return usage.num_free + usage.num_cached;
  }
  SlotId AnySlot() { return SlotId(Pick(options_.max_num_seqs)); }
  void SetValues(KvPropertySequence* seq, int32_t first);
  Prefix PrefixOf(const KvPropertySequence& seq, int32_t num_blocks) const {
    return {
        seq.scope,
        {seq.tokens.begin(), seq.tokens.begin() + num_blocks * block_size_}};
  }
  // Holders of each block, by the tables.
  std::map<BlockId, int32_t> Holders() const;

  KvPropertySequence NewSequence();
  absl::Status Step();
  void GiveUp();
  void Release(SlotId slot);
  void Park(SlotId slot);
  void ForgetAll();
  void ForkOne();
  absl::Status AdmitOne();
  absl::Status Admit(SlotId slot, KvPropertySequence seq);
  void Seat(const AdmittedSlot& admitted, int32_t num_new,
            KvPropertySequence seq);
  absl::Status CheckFound(const KvPropertySequence& seq,
                          const KvReuse& reuse) const;
  absl::Status GrowOne(SlotId slot);
  void Publish(SlotId slot, KvPropertySequence* seq);
  void Overwrite(SlotId slot, int32_t position);
  void Compute();
  absl::Status Verify();
  absl::Status End();

  const KvPropertyCase property_;
  const KvOptions options_;
  const int32_t block_size_;
  KvManager& manager_;
  std::mt19937 random_;
  KvMirror mirror_;
  int64_t num_operations_ = 0;
  uint64_t last_id_ = 0;
  // Where many sequences have their beginnings from.
  std::vector<TokenId> documents_[4];
  std::map<SlotId, KvPropertySequence> live_;
  std::map<SequenceId, KvPropertySequence> parked_;
  // Full blocks after all those before them, and where the first is that was
  // published. Only of use where nothing is evicted.
  std::map<Prefix, BlockId> published_;
  StepPlan plan_;
  std::map<SlotId, int32_t> num_pending_;  // tokens that the plan computes
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_KV_KV_PROPERTY_RUN_H_
