// SPDX-License-Identifier: Apache-2.0
#include "coordinator/recording/plan_digest.h"

#include <bit>
#include <type_traits>
#include <variant>
#include <vector>

#include "common/digest.h"

namespace quire {
namespace {

// Chains words. Each list is preceded by its length, so that an element cannot
// move from one list to the next unnoticed.
class Chain {
 public:
  template <typename Int>
  std::enable_if_t<std::is_integral_v<Int>> Add(Int word) {
    value_ = MixBits(value_ ^ static_cast<uint64_t>(word));
  }
  void Add(float number) { Add(std::bit_cast<uint32_t>(number)); }
  template <typename Tag, typename Int>
  void Add(StrongId<Tag, Int> id) {
    Add(id.value());
  }
  void Add(const SlotFork& fork) {
    Add(fork.parent);
    Add(fork.child);
    Add(fork.child_sequence_id);
    Add(fork.child_seed);
    Add(fork.num_tokens);
  }
  void Add(const NextToken& next) {
    Add(next.slot);
    Add(next.token);
  }
  void Add(const SlotSampling& sampling) {
    for (float number : {sampling.temperature, sampling.top_p, sampling.min_p,
                         sampling.presence_penalty, sampling.frequency_penalty,
                         sampling.repetition_penalty}) {
      Add(number);
    }
    Add(sampling.top_k);
    Add(sampling.seed);
    Add(sampling.min_tokens);
    AddAll(sampling.stop_token_ids);
    Add(sampling.num_logprobs);
    Add(sampling.logit_bias.size());
    for (const TokenBias& bias : sampling.logit_bias) {
      Add(bias.token_id);
      Add(bias.bias);
    }
    Add(sampling.bad_words.size());
    for (const auto& word : sampling.bad_words) AddAll(word);
    AddAll(sampling.allowed_token_ids);
    Add(sampling.needs_mask);
    Add(sampling.num_prompt_logprobs);
  }
  void Add(const AdmittedSlot& admitted) {
    Add(admitted.slot);
    Add(admitted.sequence_id);
    AddAll(admitted.tokens);
    Add(admitted.num_prompt_tokens);
    Add(admitted.num_computed_tokens);
    Add(admitted.sampling);
    Add(admitted.cache.index());
    if (const auto* row = std::get_if<CacheRowId>(&admitted.cache)) {
      Add(*row);
    } else {
      AddAll(std::get<std::vector<BlockId>>(admitted.cache));
    }
  }
  void Add(const ReplacedBlock& replaced) {
    Add(replaced.slot);
    Add(replaced.logical_idx);
    Add(replaced.block);
  }
  void Add(const AppendedBlock& appended) {
    Add(appended.slot);
    Add(appended.block);
  }
  void Add(const RowMapping& mapping) {
    Add(mapping.row);
    Add(mapping.num_page_groups);
  }
  void Add(const BlockSwap& swap) {
    Add(swap.device);
    Add(swap.host);
  }
  void Add(const BlockCopy& copy) {
    Add(copy.src);
    Add(copy.dst);
  }
  // Not which tokens it allows: recordings do not hold that.
  void Add(const SlotMask& mask) { Add(mask.slot); }
  void Add(const Slice& slice) {
    Add(slice.slot);
    Add(slice.num_tokens);
    Add(slice.sample);
  }
  template <typename List>
  void AddAll(const List& list) {
    Add(list.size());
    for (const auto& item : list) Add(item);
  }

  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0x706c616e;
};

}  // namespace

const std::array<const char*, kNumPlanParts> kPlanPartNames = {
    "released", "forks",    "next_tokens", "admitted", "replaced",
    "appended", "mappings", "swap_outs",   "swap_ins", "copies",
    "masks",    "decodes",  "chunks"};

uint64_t PlanDigest(const StepPlan& plan) {
  Chain chain;
  chain.Add(plan.identity.coordinator_epoch);
  chain.Add(plan.identity.group_epoch);
  chain.Add(plan.identity.step_id);
  chain.Add(plan.resync);
  chain.AddAll(plan.released);
  chain.AddAll(plan.forks);
  chain.AddAll(plan.next_tokens);
  chain.AddAll(plan.admitted);
  chain.AddAll(plan.replaced);
  chain.AddAll(plan.appended);
  chain.AddAll(plan.mappings);
  chain.AddAll(plan.swap_outs);
  chain.AddAll(plan.swap_ins);
  chain.AddAll(plan.copies);
  chain.AddAll(plan.masks);
  chain.AddAll(plan.decodes);
  chain.AddAll(plan.chunks);
  return chain.value();
}

std::array<uint32_t, kNumPlanParts> PlanPartSizes(const StepPlan& plan) {
  const auto size = [](const auto& list) {
    return static_cast<uint32_t>(list.size());
  };
  return {size(plan.released), size(plan.forks),     size(plan.next_tokens),
          size(plan.admitted), size(plan.replaced),  size(plan.appended),
          size(plan.mappings), size(plan.swap_outs), size(plan.swap_ins),
          size(plan.copies),   size(plan.masks),     size(plan.decodes),
          size(plan.chunks)};
}

}  // namespace quire
