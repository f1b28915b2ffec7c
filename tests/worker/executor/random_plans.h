// SPDX-License-Identifier: Apache-2.0
//
// Plans of sequences that come, are computed in chunks of any size, sample by
// any rules, and go: of the small model, its limits and kNumRandomBlocks.
#ifndef TESTS_WORKER_EXECUTOR_RANDOM_PLANS_H_
#define TESTS_WORKER_EXECUTOR_RANDOM_PLANS_H_

#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "tests/worker/executor/executor_world.h"

namespace quire {

inline constexpr int32_t kNumRandomSlots = 4;
inline constexpr int32_t kBlocksPerSlot = 10;  // for the longest sequence
inline constexpr int32_t kNumRandomBlocks = kNumRandomSlots * kBlocksPerSlot;

// Thread-compatible. Equal seeds make equal plans.
class RandomPlans {
 public:
  explicit RandomPlans(uint32_t seed) : random_(seed) {}

  std::vector<StepPlan> Make(int32_t num_plans) {
    std::vector<StepPlan> plans(num_plans);
    for (StepPlan& plan : plans) {
      for (int32_t slot = 0; slot < kNumRandomSlots; ++slot) {
        Seat& seat = seats_[slot];
        if (seat.is_taken && (OneIn(14) || seat.num_known >= kMaxKnown)) {
          plan.released.push_back(SlotId(slot));
          seat.is_taken = false;
        }
        if (seat.is_taken && !OneIn(6)) Continue(slot, &plan);
        if (!seat.is_taken && OneIn(3)) Start(slot, &plan);
      }
    }
    return plans;
  }

 private:
  static constexpr int32_t kMaxKnown = 38;  // tokens

  struct Seat {
    bool is_taken = false;
    int32_t num_computed = 0;
    int32_t num_known = 0;  // or sampled by a step that may still run
    bool needs_mask = false;
  };

  int32_t Below(int32_t n) { return static_cast<int32_t>(random_() % n); }
  bool OneIn(int32_t n) { return Below(n) == 0; }

  void Start(int32_t slot, StepPlan* plan) {
    std::vector<TokenId> tokens(2 + Below(6));
    for (TokenId& token : tokens) token = Below(kVocab);
    std::vector<int32_t> blocks(kBlocksPerSlot);
    std::iota(blocks.begin(), blocks.end(), slot * kBlocksPerSlot);
    seats_[slot] = {true, 0, static_cast<int32_t>(tokens.size())};
    plan->admitted.push_back(Admit(slot, std::move(tokens), blocks));
    plan->admitted.back().sampling = Sampling();
    seats_[slot].needs_mask = plan->admitted.back().sampling.needs_mask;
    AddChunk(slot, plan);
  }

  void Continue(int32_t slot, StepPlan* plan) {
    Seat& seat = seats_[slot];
    if (seat.num_known - seat.num_computed > 1) return AddChunk(slot, plan);
    plan->decodes.push_back(SlotId(slot));
    ++seat.num_computed;
    AddSample(slot, plan);
  }

  void AddChunk(int32_t slot, StepPlan* plan) {
    Seat& seat = seats_[slot];
    const int32_t num_left = seat.num_known - seat.num_computed;
    const int32_t num_tokens = 1 + Below(num_left);
    plan->chunks.push_back({SlotId(slot), num_tokens, num_tokens == num_left});
    seat.num_computed += num_tokens;
    if (num_tokens == num_left) AddSample(slot, plan);
  }

  // A mask is no function of the tokens before it here, so that a step with
  // one may begin before they are known, which a coordinator's does not.
  void AddSample(int32_t slot, StepPlan* plan) {
    ++seats_[slot].num_known;
    if (seats_[slot].needs_mask) {
      plan->masks.push_back({SlotId(slot), MaskWords()});
    }
  }

  // Of a quarter of the ids, or less where there are fewer words than ids.
  std::vector<uint32_t> MaskWords() {
    std::vector<uint32_t> words(1 + Below(kVocab / 32 + 1));
    for (uint32_t& word : words) word = random_() & random_();
    if (words.size() > kVocab / 32) words.back() &= (1u << kVocab % 32) - 1;
    words[0] |= 1u << (11 + 3 * Below(7));  // that no other rule takes
    return words;
  }

  SlotSampling Sampling() {
    SlotSampling sampling;
    sampling.seed = random_();
    sampling.temperature = OneIn(5) ? 0 : 0.4f + 0.3f * Below(3);
    AddFilters(&sampling);
    AddPenalties(&sampling);
    AddMasks(&sampling);
    if (OneIn(5)) sampling.num_logprobs = Below(4);
    if (OneIn(14)) sampling.num_prompt_logprobs = 2;
    return sampling;
  }

  void AddFilters(SlotSampling* sampling) {
    if (OneIn(2)) sampling->top_k = 1 + Below(120);
    if (OneIn(3)) sampling->top_p = 0.3f + 0.1f * Below(7);
    if (OneIn(4)) sampling->min_p = 0.03f;
  }

  void AddPenalties(SlotSampling* sampling) {
    if (OneIn(4)) sampling->repetition_penalty = 1.6f;
    if (OneIn(5)) sampling->frequency_penalty = 0.6f;
    if (OneIn(5)) sampling->presence_penalty = 0.9f;
    if (OneIn(6)) sampling->logit_bias = {{3, 2.0f}, {80, 4.0f}};
  }

  void AddMasks(SlotSampling* sampling) {
    if (OneIn(6)) sampling->bad_words = {{7}, {80}};
    // Words of several tokens are the host's to mask.
    if (OneIn(12)) sampling->bad_words = {{7, 8}, {80}};
    if (OneIn(7)) sampling->allowed_token_ids = EveryNth(2);
    sampling->needs_mask = sampling->allowed_token_ids.empty() && OneIn(4);
    if (OneIn(3)) {
      sampling->min_tokens = Below(6);
      sampling->stop_token_ids = EveryNth(3);
    }
  }

  static std::vector<TokenId> EveryNth(int32_t n) {
    std::vector<TokenId> ids;
    for (TokenId id = 0; id < kVocab; id += n) ids.push_back(id);
    return ids;
  }

  std::mt19937 random_;
  Seat seats_[kNumRandomSlots];
};

}  // namespace quire

#endif  // TESTS_WORKER_EXECUTOR_RANDOM_PLANS_H_
