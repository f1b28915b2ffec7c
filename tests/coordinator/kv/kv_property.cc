// SPDX-License-Identifier: Apache-2.0
//
// What must be so.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "tests/coordinator/kv/kv_property_run.h"

namespace quire {
namespace {

template <typename... Args>
absl::Status Violation(const Args&... what) {
  return absl::InternalError(absl::StrCat(what...));
}

}  // namespace

absl::Status KvPropertyRun::Steps(int64_t num_operations) {
  while (num_operations_ < num_operations) {
    absl::Status status = Step();
    if (status.ok() && Pick(4) == 0) status = manager_.CheckInvariants();
    if (!status.ok()) {
      return Violation(property_.name, ", operation ", num_operations_, ": ",
                       status.message());
    }
  }
  return End();
}

std::map<BlockId, int32_t> KvPropertyRun::Holders() const {
  std::map<BlockId, int32_t> holders;
  for (const auto& [slot, seq] : live_) {
    const std::vector<BlockId>& table = mirror_.table(slot);
    for (size_t i = seq.num_dropped; i < table.size(); ++i) ++holders[table[i]];
  }
  return holders;
}

// What must be found if nothing is ever lost.
absl::Status KvPropertyRun::CheckFound(const KvPropertySequence& seq,
                                       const KvReuse& reuse) const {
  const int32_t max_computed = seq.num_known - 1;
  const int32_t num_parked = std::min(seq.num_computed, max_computed);
  int32_t num_blocks = 0;
  int32_t num_computed = 0;
  int32_t first_there = 0;
  const auto is_published = [&] {
    return property_.finds_all && seq.scope != 0 &&
           published_.contains(PrefixOf(seq, num_blocks + 1));
  };
  while ((num_blocks + 1) * block_size_ <= max_computed) {
    const bool is_there =
        (num_blocks + 1) * block_size_ <= num_parked || is_published();
    ++num_blocks;
    if (!is_there) first_there = num_blocks;
    // Behind a window, a gap does not matter to a prefix.
    if (!is_there && (seq.window == 0 || num_parked > 0)) break;
    const int32_t first_seen =
        seq.window == 0
            ? 0
            : std::max(0, num_blocks * block_size_ + 1 - seq.window);
    if (is_there && first_there <= first_seen / block_size_) {
      num_computed = num_blocks * block_size_;
    }
  }
  num_computed = std::max(num_computed, num_parked);
  const int32_t found = reuse.num_computed_tokens;
  if (found == num_computed || (seq.may_lose && found < num_computed)) {
    return absl::OkStatus();
  }
  if (!property_.finds_all && found > num_computed) return absl::OkStatus();
  return Violation("sequence ", seq.id.value(), " finds ", found, " of ",
                   num_computed, " tokens, ", num_parked, " of them parked");
}

// What was published of a block is lost when a sole holder writes into it.
void KvPropertyRun::Overwrite(SlotId slot, int32_t position) {
  const std::vector<BlockId>& table = mirror_.table(slot);
  const size_t idx = position / block_size_;
  if (!property_.finds_all || idx >= table.size()) return;
  const BlockId block = table[idx];
  std::erase_if(published_,
                [block](const auto& entry) { return entry.second == block; });
}

absl::Status KvPropertyRun::Verify() {
  for (const auto& [slot, seq] : live_) {
    const int32_t first =
        seq.window == 0 ? 0 : std::max(0, seq.num_computed + 1 - seq.window);
    for (int32_t position = first; position < seq.num_computed; ++position) {
      if (mirror_.Read(slot, position) != seq.values[position]) {
        return Violation("token ", position, " of slot ", slot.value(),
                         " is not what was computed");
      }
    }
    if (manager_.NumBlocks(slot) !=
        static_cast<int32_t>(mirror_.table(slot).size())) {
      return Violation("slot ", slot.value(), " holds ",
                       manager_.NumBlocks(slot), " blocks");
    }
  }
  if (manager_.table_digest() != mirror_.Digest()) {
    return Violation("the workers' tables are not the manager's");
  }
  const KvUsage usage = manager_.Usage();
  const std::map<BlockId, int32_t> holders = Holders();
  if (usage.num_held != static_cast<int32_t>(holders.size()) ||
      usage.num_free + usage.num_cached + usage.num_held !=
          options_.num_blocks) {
    return Violation(usage.num_free, " free, ", usage.num_cached, " cached, ",
                     usage.num_held, " held; tables hold ", holders.size());
  }
  std::vector<SlotId> some;
  std::map<BlockId, int32_t> counts;
  for (const auto& [slot, seq] : live_) {
    if (Pick(2) == 0) continue;
    some.push_back(slot);
    const std::vector<BlockId>& table = mirror_.table(slot);
    for (size_t i = seq.num_dropped; i < table.size(); ++i) ++counts[table[i]];
  }
  const auto num_private = std::count_if(
      counts.begin(), counts.end(), [&holders](const auto& entry) {
        return holders.at(entry.first) == entry.second;
      });
  if (manager_.NumPrivateBlocks(some) != num_private) {
    return Violation(manager_.NumPrivateBlocks(some),
                     " private blocks of slots that have ", num_private);
  }
  return absl::OkStatus();
}

absl::Status KvPropertyRun::End() {
  while (!live_.empty()) Release(live_.begin()->first);
  for (const auto& [id, seq] : parked_) manager_.Forget(id);
  QUIRE_RETURN_IF_ERROR(manager_.CheckInvariants());
  KvUsage usage = manager_.Usage();
  if (usage.num_free + usage.num_cached != options_.num_blocks ||
      manager_.table_digest() != 0) {
    return Violation("at the end ", usage.num_free, " blocks are free and ",
                     usage.num_cached, " cached of ", options_.num_blocks);
  }
  manager_.ForgetAll();
  QUIRE_RETURN_IF_ERROR(manager_.CheckInvariants());
  usage = manager_.Usage();
  if (usage.num_free != options_.num_blocks ||
      usage.num_free_host_blocks != options_.num_host_blocks) {
    return Violation("with all forgotten, ", usage.num_free, " of ",
                     options_.num_blocks, " blocks are free, and ",
                     usage.num_free_host_blocks, " of ",
                     options_.num_host_blocks, " host blocks");
  }
  return absl::OkStatus();
}

absl::Status RunKvProperty(const KvPropertyCase& property, KvManager* manager,
                           int64_t num_operations, uint32_t seed) {
  return KvPropertyRun(property, manager, seed).Steps(num_operations);
}

}  // namespace quire
