// SPDX-License-Identifier: Apache-2.0
//
// What is tried, in what order.
#include "tests/coordinator/kv/kv_property_run.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"

namespace quire {
namespace {

template <typename... Args>
absl::Status Violation(const Args&... what) {
  return absl::InternalError(absl::StrCat(what...));
}

// Entries at the head of a table that stand in for blocks behind the window:
// they repeat the first that counts.
int32_t NumStandIns(const std::vector<BlockId>& table) {
  size_t num = 0;
  while (num + 1 < table.size() && table[num] == table[num + 1]) ++num;
  return static_cast<int32_t>(num);
}

}  // namespace

KvPropertyRun::KvPropertyRun(const KvPropertyCase& property, KvManager* manager,
                             uint32_t seed)
    : property_(property),
      options_(property.options),
      block_size_(property.options.block_size),
      manager_(*manager),
      random_(seed),
      mirror_(options_.num_blocks, options_.num_host_blocks, block_size_) {
  for (auto& document : documents_) {
    for (int32_t i = 0; i < property.max_length; ++i) {
      document.push_back(Pick(3));
    }
  }
}

void KvPropertyRun::SetValues(KvPropertySequence* seq, int32_t first) {
  seq->values.resize(seq->tokens.size());
  for (size_t i = first; i < seq->tokens.size(); ++i) {
    const uint64_t before = i == 0 ? seq->salt : seq->values[i - 1];
    seq->values[i] = MixBits(before ^ static_cast<uint32_t>(seq->tokens[i]));
  }
}

KvPropertySequence KvPropertyRun::NewSequence() {
  KvPropertySequence seq;
  seq.id = SequenceId(++last_id_);
  seq.family = static_cast<int32_t>(last_id_);
  seq.scope = Pick(3);
  seq.salt = MixBits(seq.scope == 0 ? seq.id.value() << 8 : seq.scope);
  // A window of one token leaves nothing behind that could be noted.
  seq.window =
      Pick(4) == 0 ? 2 - property_.rewrites + Pick(3 * block_size_) : 0;
  const int32_t length = 2 + Pick(property_.max_length - 2);
  seq.tokens = documents_[Pick(4)];
  seq.tokens.resize(Pick(length + 1));
  while (static_cast<int32_t>(seq.tokens.size()) < length) {
    seq.tokens.push_back(Pick(3));
  }
  SetValues(&seq, 0);
  seq.num_known = 1 + Pick(length);
  return seq;
}

// One plan: first what gives blocks up, then forks, then what takes blocks, in
// any order; then the workers run it.
absl::Status KvPropertyRun::Step() {
  plan_ = StepPlan();
  num_pending_.clear();
  for (auto& [slot, seq] : live_) seq.is_touched = false;
  GiveUp();
  if (Pick(4) == 0) ForkOne();
  for (int32_t i = Pick(6); i >= 0; --i) {
    const SlotId slot = AnySlot();
    QUIRE_RETURN_IF_ERROR(live_.contains(slot) ? GrowOne(slot) : AdmitOne());
    if (Pick(8) == 0) {
      for (auto& [other, seq] : live_) {
        if (Pick(4) == 0) Publish(other, &seq);
      }
    }
  }
  QUIRE_RETURN_IF_ERROR(mirror_.Move(plan_));
  Compute();
  return Verify();
}

void KvPropertyRun::GiveUp() {
  for (auto& [slot, seq] : live_) {
    if (seq.window == 0) continue;
    const int32_t num_unseen = std::max(0, seq.num_computed + 1 - seq.window);
    manager_.DropBefore(slot, num_unseen);
    ++num_operations_;
    seq.num_dropped =
        std::max(seq.num_dropped,
                 std::min(num_unseen / block_size_,
                          static_cast<int32_t>(mirror_.table(slot).size())));
  }
  if (Pick(3) == 0) {
    const SlotId slot = AnySlot();
    if (live_.contains(slot)) {
      if (Pick(3) == 0) {
        Release(slot);
      } else {
        // A group is preempted whole, or one alone.
        const int32_t family = live_.at(slot).family;
        std::vector<SlotId> victims;
        for (const auto& [other, seq] : live_) {
          if (other == slot || (seq.family == family && Pick(4) != 0)) {
            victims.push_back(other);
          }
        }
        for (SlotId victim : victims) Park(victim);
      }
    }
  }
  while (!parked_.empty() &&
         (static_cast<int32_t>(parked_.size()) > property_.max_parked ||
          Pick(40) == 0)) {
    auto it = parked_.begin();
    std::advance(it, Pick(parked_.size()));
    manager_.Forget(it->first);
    ++num_operations_;
    parked_.erase(it);
  }
  const int32_t most_of_a_plan = 8 * BlocksFor(property_.max_length);
  if (property_.finds_all) {
    if (manager_.Usage().num_free < most_of_a_plan) {
      while (!live_.empty()) Release(live_.begin()->first);
      ForgetAll();
    }
  } else if (!property_.keeps_parked && Pick(500) == 0) {
    ForgetAll();
  }
}

void KvPropertyRun::Release(SlotId slot) {
  manager_.Release(slot);
  ++num_operations_;
  mirror_.Release(slot);
  live_.erase(slot);
}

void KvPropertyRun::Park(SlotId slot) {
  KvPropertySequence seq = std::move(live_.at(slot));
  constexpr ParkMode kModes[] = {ParkMode::kSwap, ParkMode::kRetain,
                                 ParkMode::kDrop};
  const ParkMode mode = kModes[property_.keeps_parked ? 0 : Pick(3)];
  manager_.Park(slot, seq.id, seq.num_computed, mode);
  ++num_operations_;
  mirror_.Release(slot);
  live_.erase(slot);
  const int32_t length = static_cast<int32_t>(seq.tokens.size());
  if (seq.num_known == seq.num_computed &&
      !(property_.rewrites && Pick(3) == 0)) {
    seq.num_known = std::min(length, seq.num_known + 1);
  }
  if (seq.num_computed == length && !property_.rewrites) {
    manager_.Forget(seq.id);  // it has ended
    return;
  }
  // Dropped, it is a sequence that waits with nothing.
  if (mode == ParkMode::kDrop) seq.num_computed = 0;
  seq.num_published = 0;
  parked_.emplace(seq.id, std::move(seq));
}

void KvPropertyRun::ForgetAll() {
  manager_.ForgetAll();
  ++num_operations_;
  published_.clear();
  for (auto& [id, seq] : parked_) seq.num_computed = 0;
}

void KvPropertyRun::ForkOne() {
  const SlotId parent_slot = AnySlot();
  const SlotId child_slot = AnySlot();
  if (!live_.contains(parent_slot) || live_.contains(child_slot)) return;
  const KvPropertySequence& parent = live_.at(parent_slot);
  int32_t num_tokens = parent.num_computed;
  if (property_.rewrites && Pick(2) == 0) {
    num_tokens = 1 + Pick(std::max(1, num_tokens));
    const int32_t num_unseen =
        parent.window == 0 ? 0 : std::max(0, num_tokens + 1 - parent.window);
    if (num_unseen < parent.num_dropped * block_size_) return;
  }
  if (num_tokens < 1 || num_tokens > parent.num_computed) return;
  manager_.Fork(parent_slot, child_slot, num_tokens);
  ++num_operations_;
  mirror_.Fork(parent_slot, child_slot, BlocksFor(num_tokens));
  KvPropertySequence child = parent;
  child.id = SequenceId(++last_id_);
  child.num_computed = num_tokens;
  child.num_known = num_tokens;
  child.num_published = std::min(child.num_published, num_tokens / block_size_);
  for (size_t i = num_tokens; i < child.tokens.size(); ++i) {
    child.tokens[i] = Pick(3);
  }
  SetValues(&child, num_tokens);
  live_.emplace(child_slot, std::move(child));
}

absl::Status KvPropertyRun::AdmitOne() {
  SlotId slot = AnySlot();
  while (live_.contains(slot)) {
    if (static_cast<int32_t>(live_.size()) == options_.max_num_seqs) {
      return absl::OkStatus();
    }
    slot = AnySlot();
  }
  KvPropertySequence seq;
  if (!parked_.empty() && Pick(2) == 0) {
    auto it = parked_.begin();
    std::advance(it, Pick(parked_.size()));
    seq = it->second;
  } else {
    seq = NewSequence();
  }
  return Admit(slot, std::move(seq));
}

absl::Status KvPropertyRun::Admit(SlotId slot, KvPropertySequence seq) {
  KvAdmission admission = {
      .sequence_id = seq.id,
      .tokens = absl::MakeConstSpan(seq.tokens.data(), seq.num_known),
      .max_num_tokens = property_.max_length,
      .scope = seq.scope,
      .window = seq.window};
  const KvReuse reuse = manager_.FindReusable(admission);
  num_operations_ += 2;
  const int32_t num_left = seq.num_known - reuse.num_computed_tokens;
  if (num_left < 1) return Violation("every token is found");
  if (property_.finds_all || property_.keeps_parked) {
    QUIRE_RETURN_IF_ERROR(CheckFound(seq, reuse));
  }
  admission.num_new_tokens = 1 + Pick(num_left);
  const int32_t num_wanted =
      BlocksFor(reuse.num_computed_tokens + admission.num_new_tokens) -
      reuse.num_held_blocks;
  const int32_t num_available = NumAvailable();
  const StepPlan before = plan_;
  AdmittedSlot admitted;
  admitted.slot = slot;
  const absl::Status status =
      manager_.Admit(slot, admission, &admitted, &plan_);
  if (status.ok() != (num_wanted <= num_available)) {
    return Violation("wants ", num_wanted, " of ", num_available,
                     " blocks: ", status.message());
  }
  if (!status.ok()) {
    if (plan_ != before || NumAvailable() != num_available ||
        manager_.FindReusable(admission).num_computed_tokens !=
            reuse.num_computed_tokens) {
      return Violation("a refused admission has changed something");
    }
    return absl::OkStatus();
  }
  if (admitted.num_computed_tokens != reuse.num_computed_tokens ||
      NumAvailable() != num_available - num_wanted) {
    return Violation("was to find ", reuse.num_computed_tokens,
                     " tokens and take ", num_wanted, " blocks; found ",
                     admitted.num_computed_tokens, " and took ",
                     num_available - NumAvailable());
  }
  Seat(admitted, admission.num_new_tokens, std::move(seq));
  return absl::OkStatus();
}

void KvPropertyRun::Seat(const AdmittedSlot& admitted, int32_t num_new,
                         KvPropertySequence seq) {
  const SlotId slot = admitted.slot;
  mirror_.Admit(admitted);
  seq.num_dropped = NumStandIns(mirror_.table(slot));
  seq.num_computed = admitted.num_computed_tokens;
  seq.is_touched = true;
  parked_.erase(seq.id);
  seq.may_lose = false;
  if (seq.num_computed % block_size_ != 0) {
    for (auto& [id, sibling] : parked_) {
      sibling.may_lose |= sibling.family == seq.family;
    }
  }
  num_pending_[slot] = num_new;
  KvPropertySequence& seated = live_[slot] = std::move(seq);
  Overwrite(slot, seated.num_computed);
  if (Pick(2) == 0) Publish(slot, &seated);
}

absl::Status KvPropertyRun::GrowOne(SlotId slot) {
  KvPropertySequence& seq = live_.at(slot);
  if (seq.is_touched) return absl::OkStatus();
  if (seq.num_computed == seq.num_known) {
    seq.num_known = std::min(seq.num_known + 1 + Pick(2),
                             static_cast<int32_t>(seq.tokens.size()));
    if (seq.num_computed == seq.num_known) return absl::OkStatus();
  }
  const int32_t num_new = 1 + Pick(seq.num_known - seq.num_computed);
  const std::vector<BlockId>& table = mirror_.table(slot);
  const int32_t idx = seq.num_computed / block_size_;
  const int32_t num_appended =
      std::max(0, BlocksFor(seq.num_computed + num_new) -
                      static_cast<int32_t>(table.size()));
  const bool copy =
      idx < static_cast<int32_t>(table.size()) && Holders()[table[idx]] > 1;
  const bool must_ask = manager_.MustCopy(slot, seq.num_computed);
  if (copy && !must_ask) return Violation("a shared block may be written");
  num_operations_ += 2;
  if (num_appended > 0 || must_ask || Pick(2) == 0) {
    const int32_t num_available = NumAvailable();
    const StepPlan before = plan_;
    const absl::Status status =
        manager_.Grow(slot, seq.num_computed, num_new, &plan_);
    if (status.ok() != (num_appended + copy <= num_available)) {
      return Violation("wants ", num_appended + copy, " of ", num_available,
                       " blocks: ", status.message());
    }
    if (!status.ok()) {
      if (plan_ == before && NumAvailable() == num_available) return {};
      return Violation("a refused growth has changed something");
    }
    if (NumAvailable() != num_available - num_appended - copy) {
      return Violation("growth took ", num_available - NumAvailable(),
                       " blocks, not ", num_appended + copy);
    }
    for (size_t i = before.replaced.size(); i < plan_.replaced.size(); ++i) {
      mirror_.Replace(plan_.replaced[i]);
    }
    for (size_t i = before.appended.size(); i < plan_.appended.size(); ++i) {
      mirror_.Append(plan_.appended[i]);
    }
  }
  if (!mirror_.Holds(slot, seq.num_computed + num_new)) {
    return Violation("no room for ", seq.num_computed + num_new, " tokens");
  }
  if (!copy) Overwrite(slot, seq.num_computed);
  seq.is_touched = true;
  num_pending_[slot] = num_new;
  if (Pick(2) == 0) Publish(slot, &seq);
  return absl::OkStatus();
}

void KvPropertyRun::Publish(SlotId slot, KvPropertySequence* seq) {
  const auto pending = num_pending_.find(slot);
  const int32_t num_computed =
      seq->num_computed + (pending == num_pending_.end() ? 0 : pending->second);
  manager_.Publish(slot,
                   absl::MakeConstSpan(seq->tokens.data(), seq->num_known),
                   num_computed);
  ++num_operations_;
  if (!property_.finds_all || seq->scope == 0) return;
  const std::vector<BlockId>& table = mirror_.table(slot);
  while (seq->num_published < num_computed / block_size_) {
    const int32_t idx = seq->num_published++;
    if (idx < seq->num_dropped) continue;
    published_.emplace(PrefixOf(*seq, idx + 1), table[idx]);
  }
}

void KvPropertyRun::Compute() {
  for (const auto& [slot, num_tokens] : num_pending_) {
    KvPropertySequence& seq = live_.at(slot);
    const int32_t end = seq.num_computed + num_tokens;
    for (int32_t& position = seq.num_computed; position < end; ++position) {
      mirror_.Write(slot, position, seq.values[position]);
    }
  }
}

}  // namespace quire
