// SPDX-License-Identifier: Apache-2.0
#include "tests/coordinator/kv/kv_mirror.h"

#include <set>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"

namespace quire {
namespace {

// Whether each is in [0, size) and none comes twice.
template <typename Id>
bool AreDistinct(const std::vector<Id>& ids, size_t size) {
  std::set<Id> seen;
  for (Id id : ids) {
    if (id.value() < 0 || static_cast<size_t>(id.value()) >= size ||
        !seen.insert(id).second) {
      return false;
    }
  }
  return true;
}

}  // namespace

KvMirror::KvMirror(int32_t num_blocks, int32_t num_host_blocks,
                   int32_t block_size)
    : block_size_(block_size),
      device_(num_blocks, Block(block_size)),
      host_(num_host_blocks, Block(block_size)) {}

void KvMirror::Fork(SlotId parent, SlotId child, int32_t num_blocks) {
  tables_[child] = tables_.at(parent);
  tables_[child].resize(num_blocks);
}

absl::Status KvMirror::CheckMoves(const StepPlan& plan) const {
  std::vector<HostBlockId> out_hosts, in_hosts;
  std::vector<BlockId> out_devices, in_devices, copied;
  for (const BlockSwap& swap : plan.swap_outs) {
    out_hosts.push_back(swap.host);
    out_devices.push_back(swap.device);
  }
  for (const BlockSwap& swap : plan.swap_ins) {
    in_hosts.push_back(swap.host);
    in_devices.push_back(swap.device);
  }
  std::set<BlockId> sources;
  for (const BlockCopy& copy : plan.copies) {
    copied.push_back(copy.dst);
    sources.insert(copy.src);
  }
  // What one kind of move writes, it writes once.
  if (!AreDistinct(out_hosts, host_.size()) ||
      !AreDistinct(out_devices, device_.size()) ||
      !AreDistinct(in_hosts, host_.size()) ||
      !AreDistinct(in_devices, device_.size()) ||
      !AreDistinct(copied, device_.size())) {
    return absl::InternalError("two moves of a kind write one block");
  }
  for (BlockId block : copied) {
    if (sources.contains(block)) {
      return absl::InternalError(absl::StrCat(
          "block ", block.value(), " is copied and copied over at once"));
    }
  }
  return absl::OkStatus();
}

void KvMirror::Admit(const AdmittedSlot& admitted) {
  tables_[admitted.slot] = std::get<std::vector<BlockId>>(admitted.cache);
}

absl::Status KvMirror::Move(const StepPlan& plan) {
  QUIRE_RETURN_IF_ERROR(CheckMoves(plan));
  for (const BlockSwap& swap : plan.swap_outs) {
    host_[swap.host.value()] = device_[swap.device.value()];
  }
  for (const BlockSwap& swap : plan.swap_ins) {
    device_[swap.device.value()] = host_[swap.host.value()];
  }
  for (const BlockCopy& copy : plan.copies) {
    device_[copy.dst.value()] = device_.at(copy.src.value());
  }
  return absl::OkStatus();
}

bool KvMirror::Holds(SlotId slot, int32_t num_tokens) const {
  return static_cast<int32_t>(tables_.at(slot).size()) * block_size_ >=
         num_tokens;
}

uint64_t& KvMirror::Row(SlotId slot, int32_t position) {
  const BlockId block = tables_.at(slot)[position / block_size_];
  return device_[block.value()][position % block_size_];
}

uint64_t KvMirror::Digest() const {
  TableDigest digest;
  for (const auto& [slot, table] : tables_) {
    for (size_t idx = 0; idx < table.size(); ++idx) {
      digest.Toggle(slot, static_cast<int32_t>(idx), table[idx].value());
    }
  }
  return digest.value();
}

}  // namespace quire
