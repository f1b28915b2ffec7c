// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/modelled_workers.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "common/digest.h"
#include "common/sampling_params.h"
#include "glog/logging.h"
#include "tools/simulator/made_up_token.h"

namespace quire {
namespace {

uint64_t Extend(uint64_t prefix, TokenId token) {
  return MixBits(prefix ^ static_cast<uint32_t>(token));
}

}  // namespace

ModelledWorkers::ModelledWorkers(const std::vector<SimulatedRequest>* requests,
                                 int32_t max_num_seqs, int32_t block_size,
                                 const CandidateOptions& candidates)
    : requests_(*requests),
      block_size_(block_size),
      candidates_(candidates),
      slots_(max_num_seqs) {
  for (size_t idx = 0; idx < requests_.size(); ++idx) {
    const int32_t num_sequences =
        std::max(requests_[idx].num_sequences, requests_[idx].beam_width);
    for (int32_t i = 1; i < num_sequences; ++i) {
      siblings_.emplace(SequenceSeed(idx, i), static_cast<int32_t>(idx));
    }
  }
}

int32_t ModelledWorkers::RequestOf(uint64_t seed) const {
  const auto it = siblings_.find(seed);
  if (it != siblings_.end()) return it->second;
  CHECK_LT(seed, requests_.size());
  return static_cast<int32_t>(seed);
}

void ModelledWorkers::Count(const Slot& slot, int sign) {
  const int32_t num_room =
      slot.num_blocks < 0 ? slot.num_final : slot.num_blocks * block_size_;
  totals_.num_computed_tokens += sign * slot.num_computed;
  totals_.num_future_tokens +=
      sign *
      std::max(0, std::min(num_room, slot.num_final) - slot.num_computed);
  totals_.num_blocks += sign * std::max(0, slot.num_blocks);
}

void ModelledWorkers::Admit(const AdmittedSlot& admitted) {
  Slot& slot = slots_[admitted.slot.value()];
  slot.request_idx = RequestOf(admitted.sampling.seed);
  slot.seed = admitted.sampling.seed;
  const SimulatedRequest& request = requests_[slot.request_idx];
  slot.num_computed = admitted.num_computed_tokens;
  // The last output token is never computed.
  slot.num_final = request.prompt_len + request.output_len - 1;
  const auto* blocks = std::get_if<std::vector<BlockId>>(&admitted.cache);
  slot.num_blocks =
      blocks == nullptr ? -1 : static_cast<int32_t>(blocks->size());
  slot.num_logprobs = admitted.sampling.num_logprobs;
  slot.prefix = 0;
  if (slot.num_logprobs >= 0) {
    slot.prefix = MixBits(slot.request_idx);
    for (TokenId token : admitted.tokens) {
      slot.last_prefix = slot.prefix;
      slot.prefix = Extend(slot.prefix, token);
    }
    // The last one joins when it is computed.
    slot.prefix = slot.last_prefix;
    slot.last_token = admitted.tokens.back();
  }
  Count(slot, 1);
}

void ModelledWorkers::Fork(const SlotFork& fork) {
  const Slot& parent = slots_[fork.parent.value()];
  Slot& child = slots_[fork.child.value()];
  child = parent;
  child.seed = fork.child_seed;
  child.num_computed = std::min(parent.num_computed, fork.num_tokens - 1);
  if (parent.num_blocks >= 0) {
    child.num_blocks = (child.num_computed + block_size_ - 1) / block_size_;
  }
  Count(child, 1);
}

void ModelledWorkers::Release(SlotId slot_id) {
  Slot& slot = slots_[slot_id.value()];
  Count(slot, -1);
  slot = Slot();
}

void ModelledWorkers::RunSlice(SlotId slot_id, int32_t num_tokens, bool sample,
                               bool is_decode, StepResult* result,
                               StepWork* work) {
  Slot& slot = slots_[slot_id.value()];
  const int64_t num_context = slot.num_computed;
  Count(slot, -1);
  slot.num_computed += num_tokens;
  Count(slot, 1);
  ++work->num_sequences;
  work->num_tokens += num_tokens;
  work->num_kv_tokens += slot.num_computed;
  if (!is_decode) {
    work->num_attention_pairs +=
        num_tokens * (static_cast<double>(num_context) + (num_tokens + 1) / 2.);
  }
  if (!sample) return;
  TokenId token = MadeUpToken(MixBits(slot.seed ^ MixBits(slot.num_computed)));
  if (slot.num_logprobs >= 0) {
    slot.last_prefix = slot.prefix;
    slot.prefix = Extend(slot.prefix, slot.last_token);
    SampledLogprobs& logprobs = result->logprobs.emplace_back();
    logprobs.sample_idx = static_cast<int32_t>(result->tokens.size());
    MakeCandidates(candidates_, slot.prefix, slot.num_logprobs, &logprobs.top);
    token = logprobs.top.front().token_id;
    logprobs.logprob = logprobs.top.front().logprob;
    logprobs.rank = 1;
    slot.last_token = token;
    logprobs.top.resize(slot.num_logprobs);
  }
  result->tokens.push_back(token);
}

void ModelledWorkers::Run(const StepPlan& plan, StepResult* result,
                          StepWork* work) {
  if (plan.resync) {
    for (Slot& slot : slots_) slot = Slot();
    totals_ = SlotTotals();
  }
  for (SlotId slot : plan.released) Release(slot);
  for (const SlotFork& fork : plan.forks) Fork(fork);
  for (const NextToken& next : plan.next_tokens) {
    slots_[next.slot.value()].last_token = next.token;
  }
  for (const AdmittedSlot& admitted : plan.admitted) Admit(admitted);
  for (const AppendedBlock& appended : plan.appended) {
    Slot& slot = slots_[appended.slot.value()];
    Count(slot, -1);
    ++slot.num_blocks;
    Count(slot, 1);
  }
  *work = StepWork();
  work->num_copied_blocks = static_cast<int64_t>(plan.copies.size());
  work->num_swapped_blocks =
      static_cast<int64_t>(plan.swap_outs.size() + plan.swap_ins.size());
  result->identity = plan.identity;
  result->tokens.reserve(plan.decodes.size() + plan.chunks.size());
  for (SlotId slot : plan.decodes) {
    RunSlice(slot, 1, /*sample=*/true, /*is_decode=*/true, result, work);
  }
  for (const Slice& slice : plan.chunks) {
    RunSlice(slice.slot, slice.num_tokens, slice.sample, /*is_decode=*/false,
             result, work);
  }
}

}  // namespace quire
