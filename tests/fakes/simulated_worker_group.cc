// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/simulated_worker_group.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

namespace quire {
namespace {

constexpr uint64_t kEmptyPrefix = 0x5175697265u;

// What a prefix comes to when `token` joins it. Never 0.
uint64_t Extend(uint64_t prefix, TokenId token) {
  return MixBits(prefix ^ static_cast<uint32_t>(token)) | 1;
}

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// The token that follows `num_tokens` tokens hashed as `prefix`.
TokenId SimulatedToken(uint64_t prefix, const SlotSampling& sampling,
                       int32_t num_tokens, int32_t num_outputs) {
  uint64_t draw = MixBits(prefix ^ MixBits(sampling.seed + num_tokens));
  const bool mask = num_outputs < sampling.min_tokens;
  while (mask && Contains(sampling.stop_token_ids,
                          static_cast<TokenId>(draw % kSimulatedVocabSize))) {
    draw = MixBits(draw);
  }
  return static_cast<TokenId>(draw % kSimulatedVocabSize);
}

// `token`, or the next that the mask allows.
TokenId FirstAllowed(const std::vector<uint32_t>& mask, TokenId token) {
  for (TokenId i = 0; i < kSimulatedVocabSize; ++i) {
    const TokenId id = (token + i) % kSimulatedVocabSize;
    const size_t word = id / 32;
    if (word < mask.size() && (mask[word] >> (id % 32) & 1) != 0) return id;
  }
  return -1;
}

// Ids are drawn until `num_top` differ, each less likely than the one before by
// up to a half: close enough for beams to change places.
std::vector<TopLogprob> TopOfPrefix(uint64_t prefix, int32_t num_top) {
  std::vector<TopLogprob> top;
  float logprob = -0.5f;
  for (uint64_t draw = MixBits(prefix); static_cast<int32_t>(top.size()) <
                                        std::min(num_top, kSimulatedVocabSize);
       draw = MixBits(draw)) {
    const TokenId token = static_cast<TokenId>(draw % kSimulatedVocabSize);
    const bool is_known = std::any_of(
        top.begin(), top.end(),
        [token](const TopLogprob& other) { return other.token_id == token; });
    if (is_known) continue;
    top.push_back({token, logprob});
    logprob -= 0.001f + static_cast<float>(draw >> 40) * 0x1p-25f;
  }
  return top;
}

}  // namespace

std::vector<TopLogprob> SimulatedTop(const std::vector<TokenId>& tokens,
                                     int32_t num_top) {
  uint64_t prefix = kEmptyPrefix;
  for (TokenId token : tokens) prefix = Extend(prefix, token);
  return TopOfPrefix(prefix, num_top);
}

std::vector<TokenId> SimulatedStream(const std::vector<TokenId>& prompt,
                                     const SamplingParams& sampling,
                                     const MaskRule& rule) {
  uint64_t prefix = kEmptyPrefix;
  for (TokenId token : prompt) prefix = Extend(prefix, token);
  std::vector<TokenId> outputs;
  while (static_cast<int32_t>(outputs.size()) < sampling.max_tokens) {
    const int32_t num_outputs = static_cast<int32_t>(outputs.size());
    TokenId token = SimulatedToken(
        prefix, sampling.slot,
        static_cast<int32_t>(prompt.size()) + num_outputs, num_outputs);
    if (rule != nullptr) token = FirstAllowed(rule(outputs), token);
    outputs.push_back(token);
    prefix = Extend(prefix, token);
    if (num_outputs >= sampling.slot.min_tokens &&
        Contains(sampling.stop_token_ids, token)) {
      break;
    }
  }
  return outputs;
}

SimulatedWorkerGroup::SimulatedWorkerGroup(const SimulatedGroupOptions& options)
    : options_(options) {}

GroupReady SimulatedWorkerGroup::Begin(uint64_t group_epoch) {
  absl::MutexLock lock(&mutex_);
  last_step_ = {.coordinator_epoch = Epoch(1),
                .group_epoch = Epoch(group_epoch),
                .step_id = StepId(0)};
  results_.clear();
  rows_.clear();
  Clear();
  return {.coordinator_epoch = Epoch(1),
          .group_epoch = Epoch(group_epoch),
          .num_blocks = options_.num_blocks,
          .num_host_blocks = options_.num_host_blocks,
          .swap_blocks_per_second = options_.swap_blocks_per_second,
          .prefill_tokens_per_second = options_.prefill_tokens_per_second,
          .block_size = options_.has_rows ? options_.block_size : 0};
}

void SimulatedWorkerGroup::Clear() {
  slots_.assign(options_.max_num_seqs, Slot());
  cache_.assign(int64_t{options_.num_blocks} * options_.block_size, 0);
  host_cache_.assign(int64_t{options_.num_host_blocks} * options_.block_size,
                     0);
  num_holders_.assign(options_.num_blocks, 0);
  // Rows keep their memory, without its contents.
  rows_.resize(options_.has_rows ? options_.max_num_seqs : 0);
  for (std::vector<KvValue>& row : rows_) std::fill(row.begin(), row.end(), 0);
  row_is_held_.assign(rows_.size(), false);
  digest_.Clear();
}

void SimulatedWorkerGroup::DeliverTo(DispatchListener* listener) {
  absl::MutexLock lock(&mutex_);
  listener_ = listener;
}

void SimulatedWorkerGroup::CorruptNextDigest() {
  absl::MutexLock lock(&mutex_);
  corrupt_next_ = true;
}

absl::Status SimulatedWorkerGroup::status() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

int64_t SimulatedWorkerGroup::num_plans() const {
  absl::MutexLock lock(&mutex_);
  return num_plans_;
}

int64_t SimulatedWorkerGroup::num_resyncs() const {
  absl::MutexLock lock(&mutex_);
  return num_resyncs_;
}

int64_t SimulatedWorkerGroup::num_swaps() const {
  absl::MutexLock lock(&mutex_);
  return num_swaps_;
}

int32_t SimulatedWorkerGroup::num_live_slots() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int32_t>(
      std::count_if(slots_.begin(), slots_.end(),
                    [](const Slot& slot) { return slot.live; }));
}

std::optional<StepResult> SimulatedWorkerGroup::TakeResult() {
  absl::MutexLock lock(&mutex_);
  if (results_.empty()) return std::nullopt;
  StepResult result = std::move(results_.front());
  results_.pop_front();
  return result;
}

void SimulatedWorkerGroup::Send(const StepPlan& plan) {
  StepResult result;
  DispatchListener* listener = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    if (plan.identity.group_epoch != last_step_.group_epoch) return;
    ++num_plans_;
    CheckIdentity(plan.identity);
    if (plan.resync) {
      ++num_resyncs_;
      Clear();
    }
    for (Slot& slot : slots_) LeaveBehind(&slot);
    // First, because a block that is moved out may be another's at once.
    ApplySwapOuts(plan);
    ApplyTables(plan);
    MapRows(plan);
    ApplyCopies(plan);
    ran_.assign(options_.max_num_seqs, false);
    for (SlotId slot : plan.decodes) {
      RunSlice({.slot = slot, .num_tokens = 1, .sample = true},
               /*is_decode=*/true, &result);
    }
    for (const Slice& slice : plan.chunks) {
      RunSlice(slice, /*is_decode=*/false, &result);
    }
    result.identity = plan.identity;
    result.token_digest = TokenDigest(result.tokens);
    result.table_digest = digest_.value();
    result.step_us = 1;
    if (std::exchange(corrupt_next_, false)) result.table_digest ^= 1;
    listener = listener_;
    if (listener == nullptr) results_.push_back(std::move(result));
  }
  if (listener != nullptr) listener->OnStepResult(std::move(result));
}

void SimulatedWorkerGroup::CheckIdentity(const StepIdentity& identity) {
  if (identity.coordinator_epoch != last_step_.coordinator_epoch) {
    Fail("another coordinator epoch");
  }
  if (identity.step_id.value() != last_step_.step_id.value() + 1) {
    Fail(absl::StrCat("step ", identity.step_id.value(), " after step ",
                      last_step_.step_id.value()));
  }
  last_step_.step_id = identity.step_id;
}

void SimulatedWorkerGroup::Fail(const std::string& what) {
  if (!status_.ok()) return;
  status_ = absl::InternalError(
      absl::StrCat("step ", last_step_.step_id.value(), ": ", what));
}

SimulatedWorkerGroup::Slot* SimulatedWorkerGroup::At(SlotId slot, bool live) {
  static Slot nowhere;
  if (slot.value() < 0 || slot.value() >= options_.max_num_seqs ||
      slots_[slot.value()].live != live) {
    Fail(absl::StrCat("slot ", slot.value(), " is not ",
                      live ? "live" : "free"));
    nowhere = Slot();
    return &nowhere;
  }
  return &slots_[slot.value()];
}

void SimulatedWorkerGroup::Hold(SlotId slot_id, int32_t logical_idx,
                                BlockId block) {
  if (block.value() < 0 || block.value() >= options_.num_blocks) {
    Fail(absl::StrCat("block ", block.value(), " does not exist"));
    return;
  }
  ++num_holders_[block.value()];
  digest_.Toggle(slot_id, logical_idx, block.value());
}

void SimulatedWorkerGroup::Drop(SlotId slot_id, int32_t logical_idx,
                                BlockId block) {
  --num_holders_[block.value()];
  digest_.Toggle(slot_id, logical_idx, block.value());
}

void SimulatedWorkerGroup::LeaveBehind(Slot* slot) {
  const int32_t num_dropped =
      std::min(FirstSeen(*slot) / options_.block_size,
               static_cast<int32_t>(slot->table.size()));
  for (; slot->num_dropped < num_dropped; ++slot->num_dropped) {
    --num_holders_[slot->table[slot->num_dropped].value()];
  }
}

// Slots of this very plan that find in the block what this step computes.
int32_t SimulatedWorkerGroup::NumFinders(BlockId block) const {
  int32_t num = 0;
  for (const Slot& slot : slots_) {
    if (!slot.live || slot.admitted_by != last_step_.step_id) continue;
    const int32_t num_found =
        (slot.num_computed + options_.block_size - 1) / options_.block_size;
    num += std::count(slot.table.begin() + slot.num_dropped,
                      slot.table.begin() + num_found, block);
  }
  return num;
}

// Whatever the last owner wrote must not be mistaken for the new one's.
void SimulatedWorkerGroup::Wipe(BlockId block) {
  if (num_holders_[block.value()] != 1 &&
      num_holders_[block.value()] - NumFinders(block) != 1) {
    Fail(absl::StrCat("block ", block.value(), " is given to a second slot"));
  }
  const auto begin =
      cache_.begin() + int64_t{block.value()} * options_.block_size;
  std::fill(begin, begin + options_.block_size, 0);
}

void SimulatedWorkerGroup::Release(SlotId slot_id) {
  Slot* slot = At(slot_id, /*live=*/true);
  for (size_t idx = 0; idx < slot->table.size(); ++idx) {
    // Drop() counts it once more.
    num_holders_[slot->table[idx].value()] += idx < slot->num_dropped;
    Drop(slot_id, static_cast<int32_t>(idx), slot->table[idx]);
  }
  if (slot->row.has_value()) {
    row_is_held_[slot->row->value()] = false;
    digest_.Toggle(slot_id, 0, slot->row->value());
  }
  *slot = Slot();
}

void SimulatedWorkerGroup::TakeRow(SlotId slot_id, CacheRowId row) {
  if (row.value() < 0 || row.value() >= static_cast<int32_t>(rows_.size()) ||
      row_is_held_[row.value()]) {
    Fail(absl::StrCat("row ", row.value(), " is not free"));
    return;
  }
  row_is_held_[row.value()] = true;
  slots_[slot_id.value()].row = row;
  digest_.Toggle(slot_id, 0, row.value());
}

// Memory that comes holds nothing; what goes takes its contents along.
void SimulatedWorkerGroup::MapRows(const StepPlan& plan) {
  for (const RowMapping& mapping : plan.mappings) {
    if (mapping.row.value() < 0 ||
        mapping.row.value() >= static_cast<int32_t>(rows_.size())) {
      Fail(absl::StrCat("row ", mapping.row.value(), " does not exist"));
      continue;
    }
    rows_[mapping.row.value()].resize(
        int64_t{mapping.num_page_groups} * options_.block_size, 0);
    int64_t num_values = 0;
    for (const std::vector<KvValue>& row : rows_) num_values += row.size();
    if (num_values > int64_t{options_.num_blocks} * options_.block_size) {
      Fail("more page groups are mapped than there are");
    }
  }
}

void SimulatedWorkerGroup::Fork(const SlotFork& fork) {
  const Slot* parent = At(fork.parent, /*live=*/true);
  Slot* child = At(fork.child, /*live=*/false);
  const int32_t num_computed =
      std::min(parent->num_computed, fork.num_tokens - 1);
  const int32_t num_blocks =
      (num_computed + options_.block_size - 1) / options_.block_size;
  if (fork.num_tokens < 1 ||
      fork.num_tokens > static_cast<int32_t>(parent->tokens.size())) {
    Fail("a fork of more tokens than there are, or of none");
    return;
  }
  *child = *parent;
  child->sequence_id = fork.child_sequence_id;
  child->sampling.seed = fork.child_seed;
  child->tokens.resize(fork.num_tokens);
  child->num_computed = num_computed;
  child->written.resize(num_computed);
  child->table.resize(num_blocks);
  // The parent may have left behind since what this plan's forks still see.
  child->num_dropped = 0;
  for (int32_t idx = 0; idx < num_blocks; ++idx) {
    Hold(fork.child, idx, child->table[idx]);
  }
  LeaveBehind(child);
}

void SimulatedWorkerGroup::SetNextToken(const NextToken& next) {
  Slot* slot = At(next.slot, /*live=*/true);
  const int32_t num_tokens = static_cast<int32_t>(slot->tokens.size());
  if (slot->num_computed >= num_tokens ||
      slot->num_prompt_tokens >= num_tokens) {
    Fail(absl::StrCat("slot ", next.slot.value(),
                      " has no last token of its own to change"));
    return;
  }
  slot->tokens.back() = next.token;
}

void SimulatedWorkerGroup::Admit(const AdmittedSlot& admitted) {
  Slot* slot = At(admitted.slot, /*live=*/false);
  if (admitted.num_computed_tokens < 0 ||
      admitted.num_computed_tokens >= admitted.tokens.size() ||
      admitted.num_prompt_tokens > admitted.tokens.size()) {
    Fail("an admitted slot's lengths are wrong");
  }
  slot->live = true;
  slot->sequence_id = admitted.sequence_id;
  slot->tokens = admitted.tokens;
  slot->num_prompt_tokens = admitted.num_prompt_tokens;
  slot->num_computed = admitted.num_computed_tokens;
  slot->admitted_by = last_step_.step_id;
  slot->sampling = admitted.sampling;
  slot->table.clear();
  slot->num_dropped = 0;
  slot->row.reset();
  if (const auto* row = std::get_if<CacheRowId>(&admitted.cache)) {
    TakeRow(admitted.slot, *row);
  } else {
    slot->table = std::get<std::vector<BlockId>>(admitted.cache);
  }
  for (size_t idx = 0; idx < slot->table.size(); ++idx) {
    Hold(admitted.slot, static_cast<int32_t>(idx), slot->table[idx]);
    if (static_cast<int32_t>(idx) * options_.block_size >= slot->num_computed) {
      Wipe(slot->table[idx]);
    }
  }
  LeaveBehind(slot);
  uint64_t prefix = kEmptyPrefix;
  for (int32_t position = 0; position < slot->num_computed; ++position) {
    prefix = Extend(prefix, slot->tokens[position]);
    slot->written.push_back(prefix);
  }
}

void SimulatedWorkerGroup::ApplyTables(const StepPlan& plan) {
  for (SlotId slot : plan.released) Release(slot);
  for (const SlotFork& fork : plan.forks) Fork(fork);
  for (const NextToken& next : plan.next_tokens) SetNextToken(next);
  for (const AdmittedSlot& admitted : plan.admitted) Admit(admitted);
  for (const ReplacedBlock& replaced : plan.replaced) {
    Slot* slot = At(replaced.slot, /*live=*/true);
    if (replaced.logical_idx >= slot->table.size()) {
      Fail("a block that is not there is replaced");
      continue;
    }
    BlockId& block = slot->table[replaced.logical_idx];
    Drop(replaced.slot, replaced.logical_idx, block);
    block = replaced.block;
    Hold(replaced.slot, replaced.logical_idx, block);
    Wipe(block);
  }
  for (const AppendedBlock& appended : plan.appended) {
    Slot* slot = At(appended.slot, /*live=*/true);
    Hold(appended.slot, static_cast<int32_t>(slot->table.size()),
         appended.block);
    slot->table.push_back(appended.block);
    Wipe(appended.block);
  }
}

void SimulatedWorkerGroup::ApplyCopies(const StepPlan& plan) {
  for (const BlockSwap& swap : plan.swap_ins) {
    const KvValue* from = BlockBegin(swap.host);
    KvValue* to = BlockBegin(swap.device);
    if (from == nullptr || to == nullptr) continue;
    std::copy_n(from, options_.block_size, to);
    ++num_swaps_;
  }
  for (Slot& slot : slots_) slot.mask.clear();
  for (const SlotMask& mask : plan.masks) {
    Slot* slot = At(mask.slot, /*live=*/true);
    if (!slot->sampling.needs_mask) Fail("a mask that is not needed");
    slot->mask = mask.words;
  }
  for (const BlockCopy& copy : plan.copies) {
    const KvValue* from = BlockBegin(copy.src);
    KvValue* to = BlockBegin(copy.dst);
    if (from == nullptr || to == nullptr) continue;
    std::copy_n(from, options_.block_size, to);
  }
}

void SimulatedWorkerGroup::ApplySwapOuts(const StepPlan& plan) {
  for (const BlockSwap& swap : plan.swap_outs) {
    const KvValue* from = BlockBegin(swap.device);
    KvValue* to = BlockBegin(swap.host);
    if (from == nullptr || to == nullptr) continue;
    std::copy_n(from, options_.block_size, to);
    ++num_swaps_;
  }
}

SimulatedWorkerGroup::KvValue* SimulatedWorkerGroup::BlockBegin(BlockId block) {
  if (block.value() < 0 || block.value() >= options_.num_blocks) {
    Fail(absl::StrCat("block ", block.value(), " does not exist"));
    return nullptr;
  }
  return &cache_[int64_t{block.value()} * options_.block_size];
}

SimulatedWorkerGroup::KvValue* SimulatedWorkerGroup::BlockBegin(
    HostBlockId block) {
  if (block.value() < 0 || block.value() >= options_.num_host_blocks) {
    Fail(absl::StrCat("host block ", block.value(), " does not exist"));
    return nullptr;
  }
  return &host_cache_[int64_t{block.value()} * options_.block_size];
}

SimulatedWorkerGroup::KvValue* SimulatedWorkerGroup::Kv(const Slot& slot,
                                                        int32_t position) {
  static KvValue nowhere;
  if (slot.row.has_value()) {
    std::vector<KvValue>& row = rows_[slot.row->value()];
    if (position < static_cast<int64_t>(row.size())) return &row[position];
    Fail(absl::StrCat("position ", position, " of row ", slot.row->value(),
                      " has no memory"));
    nowhere = 0;
    return &nowhere;
  }
  const int32_t idx = position / options_.block_size;
  if (idx >= static_cast<int32_t>(slot.table.size())) {
    Fail(absl::StrCat("position ", position, " has no block"));
    nowhere = 0;
    return &nowhere;
  }
  return &cache_[int64_t{slot.table[idx].value()} * options_.block_size +
                 position % options_.block_size];
}

// Whether all who hold the writer's block have this value there: it was
// computed before, or is found by them in the very step that computes it.
bool SimulatedWorkerGroup::IsExpected(const Slot* writer, int32_t position,
                                      KvValue value) {
  const size_t idx = position / options_.block_size;
  const BlockId block = writer->table[idx];
  if (BlockBegin(block)[position % options_.block_size] == value) return true;
  return std::all_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
    if (!slot.live || idx >= slot.table.size() || idx < slot.num_dropped ||
        slot.table[idx] != block) {
      return true;
    }
    const size_t at = position;
    return &slot == writer ||
           (at < slot.written.size() && slot.written[at] == value);
  });
}

void SimulatedWorkerGroup::RunSlice(const Slice& slice, bool is_decode,
                                    StepResult* result) {
  Slot* slot = At(slice.slot, /*live=*/true);
  if (!slot->live) return;
  const int32_t num_left =
      static_cast<int32_t>(slot->tokens.size()) - slot->num_computed;
  if (ran_[slice.slot.value()]) Fail("a slot runs twice in a step");
  ran_[slice.slot.value()] = true;
  if (slice.num_tokens < 1 || slice.num_tokens > num_left ||
      slice.sample != (slice.num_tokens == num_left) ||
      (is_decode && num_left != 1)) {
    Fail(absl::StrCat("slot ", slice.slot.value(), " with ", num_left,
                      " tokens left runs ", slice.num_tokens));
    return;
  }
  // What attention reads must be what this sequence wrote.
  for (int32_t position = FirstSeen(*slot); position < slot->num_computed;
       ++position) {
    if (*Kv(*slot, position) != slot->written[position]) {
      Fail(absl::StrCat("slot ", slice.slot.value(), " reads position ",
                        position, ", which holds something else"));
    }
  }
  uint64_t prefix = slot->num_computed == 0
                        ? kEmptyPrefix
                        : *Kv(*slot, slot->num_computed - 1);
  for (int32_t i = 0; i < slice.num_tokens; ++i) {
    const int32_t position = slot->num_computed++;
    prefix = Extend(prefix, slot->tokens[position]);
    KvValue* value = Kv(*slot, position);
    const size_t idx = position / options_.block_size;
    if (idx < slot->table.size() &&
        num_holders_[slot->table[idx].value()] != 1 &&
        !IsExpected(slot, position, prefix)) {
      Fail(absl::StrCat("slot ", slice.slot.value(), " writes a shared block"));
    }
    *value = prefix;
    slot->written.push_back(prefix);
  }
  ScorePrompt(*slot, slice.num_tokens, result);
  if (!slice.sample) return;
  const int32_t num_tokens = static_cast<int32_t>(slot->tokens.size());
  TokenId token = SimulatedToken(prefix, slot->sampling, num_tokens,
                                 num_tokens - slot->num_prompt_tokens);
  if (slot->sampling.needs_mask) {
    if (slot->mask.empty()) {
      Fail(
          absl::StrCat("slot ", slice.slot.value(), " samples without a mask"));
      return;
    }
    token = FirstAllowed(slot->mask, token);
  }
  slot->tokens.push_back(token);
  if (slot->sampling.num_logprobs >= 0) {
    result->logprobs.push_back(
        {.sample_idx = static_cast<int32_t>(result->tokens.size()),
         .logprob = -static_cast<float>(token),
         .rank = 1,
         .top = TopOfPrefix(prefix, slot->sampling.num_logprobs)});
  }
  result->tokens.push_back(token);
}

// Of the tokens after those that were just computed.
void SimulatedWorkerGroup::ScorePrompt(const Slot& slot, int32_t num_tokens,
                                       StepResult* result) {
  const int32_t first = slot.num_computed - num_tokens + 1;
  const int32_t end = std::min(slot.num_computed + 1, slot.num_prompt_tokens);
  if (slot.sampling.num_prompt_logprobs < 0 || first >= end) return;
  PromptLogprobs& prompt = result->prompt_logprobs.emplace_back();
  prompt.sequence_id = slot.sequence_id;
  prompt.first_token = first;
  for (int32_t i = first; i < end; ++i) {
    prompt.tokens.push_back({.sample_idx = i - first,
                             .logprob = -static_cast<float>(slot.tokens[i]),
                             .rank = 1,
                             .top = {}});
  }
}

}  // namespace quire
