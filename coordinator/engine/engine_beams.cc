// SPDX-License-Identifier: Apache-2.0
//
// Beam searches in EngineCore. All beams of a search must be known before one
// of them can go on, so its sequences await their results (depth 1), whoever
// else runs ahead. A beam that goes on keeps its slot; its siblings fork from
// it into slots that dead beams leave, which the same plan releases. Blocks of
// what they have in common are shared, and copied when written (PagedAttention,
// SOSP'23, section 4.4).
//
// A search that was preempted while results were in flight advances as it
// waits; its beams come back with the tokens that they have then.
#include <algorithm>
#include <utility>

#include "coordinator/engine/engine_core.h"
#include "glog/logging.h"

namespace quire {

void EngineCore::AcceptBeam(Sequence* seq, TokenId sampled,
                            SampledLogprobs* logprobs, absl::Time now) {
  CHECK(logprobs != nullptr) << "a beam's result without log probabilities";
  SequenceGroup* group = seq->group;
  ++metrics_.counters.num_generated_tokens;
  if (group->first_token_time == absl::InfinitePast()) {
    group->first_token_time = now;
    effects_.begun.push_back(group->key);
  }
  group->beams->AddResult(seq->index, sampled, std::move(*logprobs));
  if (group->beams->is_complete()) AdvanceBeams(group, now);
  if (group->state == SequenceGroup::State::kWaiting) SettleWaiting(group);
}

void EngineCore::AdvanceBeams(SequenceGroup* group, absl::Time now) {
  const absl::Span<const BeamGroup::Move> moves = group->beams->Advance();
  if (group->beams->is_done()) {
    const size_t first = effects_.outputs.size();
    group->beams->AppendOutputs(group->key, &effects_.outputs);
    effects_.outputs[first].num_cached_tokens = group->num_cached_tokens;
    EndGroup(group, effects_.outputs[first].finish_reason, absl::OkStatus(),
             now);
    return;
  }
  const bool is_running = group->state == SequenceGroup::State::kRunning;
  ReleaseMovedBeams(group, moves);
  // Children take what their parent was, so all fork before anyone goes on.
  for (const BeamGroup::Move& move : moves) {
    if (move.seq_idx == move.parent_idx) continue;
    Sequence* parent = &group->sequences[move.parent_idx];
    Sequence* child = &group->sequences[move.seq_idx];
    child->tokens = parent->tokens;
    child->id = SequenceId(++last_sequence_id_);
    // With the token that was sampled, which is not computed.
    if (is_running) Fork(parent, child, parent->num_tokens() + 1);
  }
  for (const BeamGroup::Move& move : moves) {
    Sequence& seq = group->sequences[move.seq_idx];
    seq.tokens.push_back(move.token);
    if (is_running && !move.is_sampled) {
      next_tokens_.push_back({.slot = seq.slot, .token = move.token});
    }
  }
  if (is_running) SettleBeams(group);
}

// Takes slots and what is parked from all sequences but those whose beam stays.
void EngineCore::ReleaseMovedBeams(SequenceGroup* group,
                                   absl::Span<const BeamGroup::Move> moves) {
  // A slot that has just come free must not be taken while its entry is there.
  CompactRunning();
  for (Sequence& seq : group->sequences) {
    const bool stays = std::any_of(
        moves.begin(), moves.end(), [&seq](const BeamGroup::Move& move) {
          return move.seq_idx == seq.index && move.parent_idx == seq.index;
        });
    if (stays) continue;
    ReleaseSlot(&seq);
    ForgetParked(&seq);
  }
  CompactRunning();
}

// Beams that have advanced may be planned again, with the blocks they have.
void EngineCore::SettleBeams(SequenceGroup* group) {
  int32_t num_reserved = 0;
  for (const Sequence& seq : group->sequences) {
    if (!seq.has_slot) {
      ++num_reserved;
    } else if (seq.publishes &&
               (seq.num_tokens() - 1) % kv_->block_size() == 0) {
      Publish(seq, seq.num_tokens() - 1);
    }
  }
  num_reserved_slots_ += num_reserved - group->num_reserved_slots;
  group->num_reserved_slots = num_reserved;
  const auto [begin, end] = GroupRange(*group);
  for (size_t idx = begin; idx < end; ++idx) {
    RunningSequence& entry = running_[idx];
    entry.awaits_result = false;
    SetMustAsk(kv_->MustCopy(entry.slot, entry.num_computed_tokens), &entry);
  }
  CountCopies(begin, end);
  RefreshPrivateBlocks(begin, end);
}

// Of several beams that will write into one block, all copy it but the last,
// who has it alone by then; unless somebody holds it who writes elsewhere. A
// step runs them in this order, so the last is never planned before another.
void EngineCore::CountCopies(size_t begin, size_t end) {
  for (size_t idx = begin; idx < end; ++idx) {
    RunningSequence& entry = running_[idx];
    if (!entry.must_ask) continue;
    const BlockHolders holders =
        kv_->HoldersOf(entry.slot, entry.num_computed_tokens);
    int32_t num_before = 0;
    bool is_last = true;
    for (size_t other = begin; other < end; ++other) {
      if (other == idx || !running_[other].must_ask) continue;
      const BlockHolders its = kv_->HoldersOf(
          running_[other].slot, running_[other].num_computed_tokens);
      if (its.block != holders.block) continue;
      num_before += other < idx;
      is_last = is_last && other < idx;
    }
    entry.shares_last_block = !is_last || num_before + 1 < holders.num_slots;
  }
}

void EngineCore::CountBlocks() {
  metrics_.counters.num_held_block_steps += kv_->Usage().num_held;
  for (const RunningSequence& entry : running_) {
    metrics_.counters.num_table_block_steps +=
        entry.num_blocks - entry.num_dropped_blocks;
  }
}

}  // namespace quire
