// SPDX-License-Identifier: Apache-2.0
//
// That every field comes back is step_plan_wire_test's.
#include "common/wire/slot_sampling_wire.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(SlotSamplingWireTest, NumbersOutOfRangeAreNamed) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  struct {
    const char* field;
    std::function<void(v1::SlotSampling&)> spoil;
  } cases[] = {
      {"temperature", [=](auto& s) { s.set_temperature(nan); }},
      {"temperature", [](auto& s) { s.set_temperature(-0.5f); }},
      {"top_p", [](auto& s) { s.set_top_p(0); }},
      {"top_p", [=](auto& s) { s.set_top_p(nan); }},
      {"top_k", [](auto& s) { s.set_top_k(-1); }},
      {"min_p", [](auto& s) { s.set_min_p(1.5f); }},
      {"presence_penalty", [=](auto& s) { s.set_presence_penalty(nan); }},
      {"frequency_penalty", [=](auto& s) { s.set_frequency_penalty(nan); }},
      {"repetition_penalty", [](auto& s) { s.set_repetition_penalty(0); }},
      {"num_logprobs", [](auto& s) { s.set_num_logprobs(-2); }},
      {"num_logprobs", [](auto& s) { s.set_num_logprobs(33); }},
      {"min_tokens", [](auto& s) { s.set_min_tokens(0x80000000u); }},
      {"stop_token_ids", [](auto& s) { s.add_stop_token_ids(0x80000000u); }},
      {"bias_token_ids: 4 follows 4",
       [](auto& s) {
         for (int i = 0; i < 2; ++i) {
           s.add_bias_token_ids(4);
           s.add_biases(1);
         }
       }},
      {"biases: 0 for 1 tokens", [](auto& s) { s.add_bias_token_ids(4); }},
      {"biases: token 4 is biased by nan",
       [=](auto& s) {
         s.add_bias_token_ids(4);
         s.add_biases(nan);
       }},
      {"bad_words: one has no tokens", [](auto& s) { s.add_bad_words(); }},
      {"bad_words: 2147483648 is above",
       [](auto& s) { s.add_bad_words()->add_token_ids(0x80000000u); }},
      {"allowed_token_ids: 3 follows 5",
       [](auto& s) {
         s.add_allowed_token_ids(5);
         s.add_allowed_token_ids(3);
       }},
      {"prompt_logprobs_plus_one: 34",
       [](auto& s) { s.set_prompt_logprobs_plus_one(34); }},
  };
  for (const auto& c : cases) {
    v1::SlotSampling message;
    message.set_top_p(1);
    message.set_repetition_penalty(1);
    SlotSampling sampling;
    ASSERT_TRUE(DecodeSlotSampling(message, &sampling).ok());
    c.spoil(message);
    const absl::Status status = DecodeSlotSampling(message, &sampling);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.field;
    EXPECT_EQ(
        status.message().find(std::string("admitted.sampling.") + c.field), 0)
        << status;
  }
}

TEST(SlotSamplingWireTest, AMaskTravelsAsIdsWhereTheseAreFew) {
  SlotMask few{SlotId(3), std::vector<uint32_t>(1000)};
  few.words[0] = 1;
  few.words[999] = 0x80000000u;
  v1::SlotMask message;
  EncodeSlotMask(few, &message);
  EXPECT_EQ(message.allowed_token_ids_size(), 2);
  EXPECT_EQ(message.allowed_token_ids(1), 31'999);
  EXPECT_TRUE(message.allowed_bits().empty());
  SlotMask many{SlotId(3), std::vector<uint32_t>(1000, 0x10101010u)};
  v1::SlotMask bits;
  EncodeSlotMask(many, &bits);
  EXPECT_EQ(bits.allowed_token_ids_size(), 0);
  EXPECT_EQ(bits.allowed_bits().size(), 4000);
}

TEST(SlotSamplingWireTest, AMaskThatAllowsNothingIsRefused) {
  v1::SlotMask message;
  SlotMask mask;
  EXPECT_EQ(DecodeSlotMask(message, &mask).message(),
            "masks.allowed_bits: slot 0 may sample no token");
  message.set_allowed_bits(std::string(8, '\0'));
  EXPECT_FALSE(DecodeSlotMask(message, &mask).ok());
  message.set_allowed_bits("12345");
  EXPECT_EQ(DecodeSlotMask(message, &mask).message(),
            "masks.allowed_bits: 5 bytes are not whole words");
  message.clear_allowed_bits();
  message.add_allowed_token_ids(1u << 24);
  EXPECT_EQ(DecodeSlotMask(message, &mask).message(),
            "masks.allowed_token_ids: 16777216 is above 16777215");
}

}  // namespace
}  // namespace quire
