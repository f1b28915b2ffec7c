// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/plain_row.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

Slot PlainSlot() {
  Slot slot;
  slot.tokens = {1, 2, 3};
  slot.num_prompt = 1;
  return slot;
}

TEST(PlainRowTest, TemperatureSeedAndLogprobsLeaveARowPlain) {
  Slot slot = PlainSlot();
  slot.sampling.temperature = 0.3f;
  slot.sampling.seed = 5;
  slot.sampling.num_logprobs = 4;
  EXPECT_TRUE(IsPlainRow(slot));
}

TEST(PlainRowTest, FiltersDoNotMatterToGreedyRows) {
  Slot slot = PlainSlot();
  slot.sampling.top_k = 5;
  EXPECT_FALSE(IsPlainRow(slot));
  slot.sampling.temperature = 0;
  EXPECT_TRUE(IsPlainRow(slot));
}

TEST(PlainRowTest, WhatChangesLogitsDoesNot) {
  for (int kind = 0; kind < 6; ++kind) {
    Slot slot = PlainSlot();
    SlotSampling& sampling = slot.sampling;
    if (kind == 0) sampling.presence_penalty = 1;
    if (kind == 1) sampling.repetition_penalty = 1.1f;
    if (kind == 2) sampling.logit_bias = {{4, 1.0f}};
    if (kind == 3) sampling.bad_words = {{4}};
    if (kind == 4) sampling.allowed_token_ids = {4};
    if (kind == 5) sampling.needs_mask = true;
    EXPECT_FALSE(IsPlainRow(slot)) << kind;
    EXPECT_FALSE(IsAlwaysPlain(sampling)) << kind;
  }
}

TEST(PlainRowTest, StopTokensAreMaskedUntilThereAreEnough) {
  Slot slot = PlainSlot();
  slot.sampling.min_tokens = 3;  // two are there
  EXPECT_TRUE(IsPlainRow(slot));
  slot.sampling.stop_token_ids = {2};
  EXPECT_FALSE(IsPlainRow(slot));
  slot.tokens.push_back(9);
  EXPECT_TRUE(IsPlainRow(slot));
  EXPECT_FALSE(IsAlwaysPlain(slot.sampling));
  slot.sampling.min_tokens = 0;
  EXPECT_TRUE(IsAlwaysPlain(slot.sampling));
}

}  // namespace
}  // namespace quire
