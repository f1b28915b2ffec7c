// SPDX-License-Identifier: Apache-2.0
#include "common/wire/step_plan_wire.h"

#include <functional>
#include <random>
#include <string>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "proto/worker.pb.h"

namespace quire {
namespace {

// Random plans in which every field takes small, large and no values.
class PlanMaker {
 public:
  explicit PlanMaker(uint64_t seed) : random_(seed) {}

  StepPlan Plan() {
    StepPlan plan;
    plan.identity = Identity();
    plan.resync = Below(2) == 1;
    Fill(&plan.released, [&] { return SlotId(Number()); });
    Fill(&plan.forks, [&] {
      return SlotFork{SlotId(Number()), SlotId(Number()), SequenceId(random_()),
                      random_(), Number()};
    });
    Fill(&plan.next_tokens, [&] {
      return NextToken{SlotId(Number()), Number()};
    });
    Fill(&plan.admitted, [&] { return Admitted(); });
    Fill(&plan.replaced, [&] {
      return ReplacedBlock{SlotId(Number()), Number(), BlockId(Number())};
    });
    Fill(&plan.appended, [&] {
      return AppendedBlock{SlotId(Number()), BlockId(Number())};
    });
    Fill(&plan.mappings, [&] {
      return RowMapping{CacheRowId(Number()), Number()};
    });
    const auto swap = [&] {
      return BlockSwap{BlockId(Number()), HostBlockId(Number())};
    };
    Fill(&plan.swap_outs, swap);
    Fill(&plan.swap_ins, swap);
    Fill(&plan.copies, [&] {
      return BlockCopy{BlockId(Number()), BlockId(Number())};
    });
    Fill(&plan.masks, [&] { return Mask(); });
    Fill(&plan.decodes, [&] { return SlotId(Number()); });
    Fill(&plan.chunks, [&] {
      return Slice{SlotId(Number()), 1 + Below(5000), Below(2) == 1};
    });
    return plan;
  }

  StepResult Result() {
    StepResult result;
    result.identity = Identity();
    Fill(&result.tokens, [&] { return Number(); });
    if (!result.tokens.empty()) {
      Fill(&result.logprobs, [&] { return Logprobs(result.tokens.size()); });
    }
    Fill(&result.prompt_logprobs, [&] {
      PromptLogprobs prompt{SequenceId(random_()), Number(), {}};
      Fill(&prompt.tokens, [&] { return Logprobs(100); });
      return prompt;
    });
    result.token_digest = random_();
    result.table_digest = random_();
    result.step_us = Number();
    return result;
  }

 private:
  int32_t Below(int64_t n) { return random_() % n; }
  int32_t Number() { return random_() >> (33 + Below(31)); }
  float Real() { return Below(1000) / 250.f; }
  StepIdentity Identity() {
    return {Epoch(random_()), Epoch(random_()), StepId(random_())};
  }

  template <typename T>
  void Fill(std::vector<T>* out, const std::function<T()>& make) {
    out->clear();
    for (int32_t n = Below(5); n > 0; --n) out->push_back(make());
  }
  template <typename T, typename Make>
  void Fill(std::vector<T>* out, Make make) {
    Fill(out, std::function<T()>(make));
  }

  SampledLogprobs Logprobs(int64_t num_samples) {
    SampledLogprobs logprobs;
    logprobs.sample_idx = Below(num_samples);
    logprobs.logprob = -Real();
    logprobs.rank = Number();
    Fill(&logprobs.top, [&] { return TopLogprob{Number(), -Real()}; });
    return logprobs;
  }

  // Nearly full, nearly empty and in between; the last word has a bit, or the
  // shorter way of sending it would drop the word.
  SlotMask Mask() {
    SlotMask mask{SlotId(Number()), std::vector<uint32_t>(1 + Below(200))};
    const int32_t kind = Below(3);
    for (uint32_t& word : mask.words) {
      word = kind == 0 ? ~0u << Below(32) : kind == 1 ? random_() : 0;
    }
    mask.words.back() |= 1u << Below(32);
    return mask;
  }

  AdmittedSlot Admitted() {
    AdmittedSlot admitted;
    admitted.slot = SlotId(Number());
    admitted.sequence_id = SequenceId(random_());
    Fill(&admitted.tokens, [&] { return Number(); });
    admitted.tokens.push_back(Number());
    admitted.num_prompt_tokens = Below(admitted.tokens.size() + 1);
    admitted.num_computed_tokens = Below(admitted.tokens.size());
    SlotSampling& sampling = admitted.sampling;
    sampling.temperature = Real();
    sampling.top_p = 1 - Below(100) / 100.f;
    sampling.top_k = Number();
    sampling.min_p = Below(101) / 100.f;
    sampling.presence_penalty = Real() - 2;
    sampling.frequency_penalty = Real() - 2;
    sampling.repetition_penalty = Real() + 0.5f;
    for (TokenId id = Below(9); Below(4) != 0; id += 1 + Below(99)) {
      sampling.logit_bias.push_back({id, Real() - 2});
      sampling.allowed_token_ids.push_back(id + 7);
    }
    Fill(&sampling.bad_words, [&] {
      std::vector<TokenId> word = {Number()};
      for (int32_t n = Below(3); n > 0; --n) word.push_back(Number());
      return word;
    });
    sampling.needs_mask = Below(2) == 1;
    sampling.num_prompt_logprobs = Below(22) - 1;
    sampling.seed = random_();
    sampling.min_tokens = Number();
    Fill(&sampling.stop_token_ids, [&] { return Number(); });
    sampling.num_logprobs = Below(kMaxSlotLogprobs + 2) - 1;
    if (Below(2) == 0) {
      admitted.cache = CacheRowId(Number());
    } else {
      std::vector<BlockId> blocks;
      Fill(&blocks, [&] { return BlockId(Number()); });
      admitted.cache = blocks;
    }
    return admitted;
  }

  std::mt19937_64 random_;
};

TEST(StepPlanWireTest, RandomPlansComeBackEqualThroughReusedObjects) {
  PlanMaker maker(/*seed=*/1);
  v1::StepPlan sent, received;
  StepPlan decoded;
  for (int i = 0; i < 2000; ++i) {
    const StepPlan plan = maker.Plan();
    EncodeStepPlan(plan, &sent);
    ASSERT_TRUE(received.ParseFromString(sent.SerializeAsString()));
    const absl::Status status = DecodeStepPlan(received, &decoded);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(decoded, plan) << sent.ShortDebugString();
  }
}

TEST(StepPlanWireTest, RandomResultsComeBackEqualThroughReusedObjects) {
  PlanMaker maker(/*seed=*/2);
  v1::StepResult sent, received;
  StepResult decoded;
  for (int i = 0; i < 2000; ++i) {
    const StepResult result = maker.Result();
    EncodeStepResult(result, &sent);
    ASSERT_TRUE(received.ParseFromString(sent.SerializeAsString()));
    const absl::Status status = DecodeStepResult(received, &decoded);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(decoded, result) << sent.ShortDebugString();
  }
}

v1::StepPlan GoodPlan() {
  v1::StepPlan plan;
  v1::AdmittedSlot* admitted = plan.add_admitted();
  admitted->set_tokens(std::string(8, '\1'));
  admitted->set_num_prompt_tokens(2);
  admitted->mutable_blocks();
  admitted->mutable_sampling()->set_top_p(1);
  admitted->mutable_sampling()->set_repetition_penalty(1);
  plan.add_forks();
  plan.add_chunks()->set_num_tokens(1);
  return plan;
}

// Decodes a good plan after `spoil` had its way with it.
std::string ErrorOf(const std::function<void(v1::StepPlan&)>& spoil) {
  v1::StepPlan message = GoodPlan();
  spoil(message);
  StepPlan plan;
  const absl::Status status = DecodeStepPlan(message, &plan);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

TEST(StepPlanWireTest, TheGoodPlanOfTheseTestsIsGood) {
  StepPlan plan;
  EXPECT_TRUE(DecodeStepPlan(GoodPlan(), &plan).ok());
}

TEST(StepPlanWireTest, EveryMalformedFieldIsNamed) {
  constexpr uint32_t kHigh = 0x80000000u;
  struct {
    const char* starts_with;
    std::function<void(v1::StepPlan&)> spoil;
  } cases[] = {
      {"released_slots: 2147483648 is above",
       [](auto& p) { p.add_released_slots(kHigh); }},
      {"forks.parent_slot",
       [](auto& p) { p.mutable_forks(0)->set_parent_slot(kHigh); }},
      {"forks.child_slot",
       [](auto& p) { p.mutable_forks(0)->set_child_slot(kHigh); }},
      {"forks.num_tokens",
       [](auto& p) { p.mutable_forks(0)->set_num_tokens(kHigh); }},
      {"next_tokens: 3 numbers are not a multiple of 2",
       [](auto& p) {
         for (int i = 0; i < 3; ++i) p.add_next_tokens(i);
       }},
      {"next_tokens: 2147483648 is above",
       [](auto& p) {
         p.add_next_tokens(1);
         p.add_next_tokens(kHigh);
       }},
      {"admitted.slot",
       [](auto& p) { p.mutable_admitted(0)->set_slot(kHigh); }},
      {"admitted.tokens: 7 bytes",
       [](auto& p) { p.mutable_admitted(0)->set_tokens("1234567"); }},
      {"admitted.tokens: token id -1",
       [](auto& p) { p.mutable_admitted(0)->set_tokens("\xff\xff\xff\xff"); }},
      {"admitted.tokens: none",
       [](auto& p) {
         p.mutable_admitted(0)->set_num_prompt_tokens(0);
         p.mutable_admitted(0)->clear_tokens();
       }},
      {"admitted.num_prompt_tokens: 3 of 2",
       [](auto& p) { p.mutable_admitted(0)->set_num_prompt_tokens(3); }},
      {"admitted.num_computed_tokens: 2 of 2",
       [](auto& p) { p.mutable_admitted(0)->set_num_computed_tokens(2); }},
      {"admitted.cache", [](auto& p) { p.mutable_admitted(0)->clear_cache(); }},
      {"admitted.cache_row",
       [](auto& p) { p.mutable_admitted(0)->set_cache_row(kHigh); }},
      {"admitted.blocks",
       [](auto& p) {
         p.mutable_admitted(0)->mutable_blocks()->add_blocks(kHigh);
       }},
      {"replaced_blocks: 4 numbers are not a multiple of 3",
       [](auto& p) {
         for (int i = 0; i < 4; ++i) p.add_replaced_blocks(i);
       }},
      {"appended_blocks: 3 numbers are not a multiple of 2",
       [](auto& p) {
         for (int i = 0; i < 3; ++i) p.add_appended_blocks(i);
       }},
      {"row_mappings", [](auto& p) { p.add_row_mappings(1); }},
      {"swap_outs", [](auto& p) { p.add_swap_outs(1); }},
      {"swap_ins", [](auto& p) { p.add_swap_ins(1); }},
      {"block_copies", [](auto& p) { p.add_block_copies(1); }},
      {"decode_slots", [](auto& p) { p.add_decode_slots(kHigh); }},
      {"chunks.slot", [](auto& p) { p.mutable_chunks(0)->set_slot(kHigh); }},
      {"chunks.num_tokens: a slice of no tokens",
       [](auto& p) { p.mutable_chunks(0)->set_num_tokens(0); }},
  };
  for (const auto& c : cases) {
    const std::string error = ErrorOf(c.spoil);
    EXPECT_EQ(error.substr(0, std::string(c.starts_with).size()),
              c.starts_with);
  }
}

TEST(StepPlanWireTest, ResultsThatCannotBeAreNamed) {
  StepResult result;
  v1::StepResult message;
  message.add_token_ids(0x80000000u);
  EXPECT_FALSE(DecodeStepResult(message, &result).ok());
  message.Clear();
  message.add_logprobs()->set_sample_index(0);
  EXPECT_EQ(DecodeStepResult(message, &result).message(),
            "logprobs.sample_index: 0 of 0 tokens");
  message.add_token_ids(1);
  EXPECT_TRUE(DecodeStepResult(message, &result).ok());
  message.mutable_logprobs(0)->add_top_token_ids(7);
  EXPECT_EQ(DecodeStepResult(message, &result).message(),
            "logprobs.top_logprobs: 0 values for 1 tokens");
}

}  // namespace
}  // namespace quire
