// SPDX-License-Identifier: Apache-2.0
//
// What a worker would have after the plans of a KV manager: block tables, and
// blocks whose contents are plain numbers. It runs moves as a device does, each
// kind at once and in no order, and answers those that would race.
#ifndef TESTS_COORDINATOR_KV_KV_MIRROR_H_
#define TESTS_COORDINATOR_KV_KV_MIRROR_H_

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "common/ids.h"
#include "common/step_plan.h"

namespace quire {

class KvMirror {
 public:
  KvMirror(int32_t num_blocks, int32_t num_host_blocks, int32_t block_size);

  void Release(SlotId slot) { tables_.erase(slot); }
  void Fork(SlotId parent, SlotId child, int32_t num_blocks);

  void Admit(const AdmittedSlot& admitted);
  void Replace(const ReplacedBlock& replaced) {
    tables_.at(replaced.slot).at(replaced.logical_idx) = replaced.block;
  }
  void Append(const AppendedBlock& appended) {
    tables_.at(appended.slot).push_back(appended.block);
  }

  // Moves the plan's contents. Internal if it names a block that there is not,
  // or its outcome depends on an order that is not given.
  absl::Status Move(const StepPlan& plan);

  // The number at a token of a slot. REQUIRES: its table is that long.
  void Write(SlotId slot, int32_t position, uint64_t value) {
    Row(slot, position) = value;
  }
  uint64_t Read(SlotId slot, int32_t position) { return Row(slot, position); }

  // Whether the slot's table has room for so many tokens.
  bool Holds(SlotId slot, int32_t num_tokens) const;
  const std::vector<BlockId>& table(SlotId slot) const {
    return tables_.at(slot);
  }
  uint64_t Digest() const;

 private:
  using Block = std::vector<uint64_t>;  // [block_size]

  uint64_t& Row(SlotId slot, int32_t position);
  absl::Status CheckMoves(const StepPlan& plan) const;

  const int32_t block_size_;
  std::vector<Block> device_;
  std::vector<Block> host_;
  std::map<SlotId, std::vector<BlockId>> tables_;
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_KV_KV_MIRROR_H_
