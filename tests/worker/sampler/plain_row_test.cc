// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/plain_row.h"

#include "gtest/gtest.h"
#include "kernels/listed_choice.h"

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

Slot ListedSlot() {
  Slot slot = PlainSlot();
  slot.sampling.temperature = 0.7f;
  slot.sampling.top_k = 50;
  return slot;
}

TEST(ListedRowTest, TopKThatCanBeListedDecidesWithWhateverFilters) {
  Slot slot = ListedSlot();
  EXPECT_TRUE(IsListedRow(slot));
  slot.sampling.top_p = 0.5f;
  slot.sampling.min_p = 0.1f;
  for (const int32_t top_k : {1, kMaxListed}) {
    slot.sampling.top_k = top_k;
    EXPECT_TRUE(IsListedRow(slot)) << top_k;
    EXPECT_FALSE(IsPlainRow(slot)) << top_k;
  }
  for (const int32_t top_k : {0, kMaxListed + 1}) {
    slot.sampling.top_k = top_k;
    EXPECT_FALSE(IsListedRow(slot)) << top_k;
  }
}

TEST(NucleusRowTest, TopPAndMinPDecideWithoutTopK) {
  for (int kind = 1; kind < 4; ++kind) {
    Slot slot = PlainSlot();
    if (kind & 1) slot.sampling.top_p = 0.9f;
    if (kind & 2) slot.sampling.min_p = 0.1f;
    EXPECT_TRUE(IsNucleusRow(slot)) << kind;
    EXPECT_FALSE(IsPlainRow(slot)) << kind;
    EXPECT_FALSE(IsListedRow(slot)) << kind;
    for (const int32_t top_k : {1, kMaxListed + 1}) {
      slot.sampling.top_k = top_k;
      EXPECT_FALSE(IsNucleusRow(slot)) << kind << " " << top_k;
    }
  }
  EXPECT_FALSE(IsNucleusRow(PlainSlot()));
}

TEST(ListedRowTest, GreedyRowsArePlain) {
  Slot slot = ListedSlot();
  slot.sampling.temperature = 0;
  EXPECT_FALSE(IsListedRow(slot));
  EXPECT_TRUE(IsPlainRow(slot));
  slot.sampling.top_k = 0;
  slot.sampling.top_p = 0.5f;
  EXPECT_FALSE(IsNucleusRow(slot));
  EXPECT_TRUE(IsPlainRow(slot));
}

constexpr int kNumMasks = 4;

// Masks of every kind.
void AddMask(int kind, SlotSampling* sampling) {
  if (kind == 0) sampling->bad_words = {{4}};
  if (kind == 1) sampling->allowed_token_ids = {4};
  if (kind == 2) sampling->needs_mask = true;
  if (kind == 3) {
    sampling->min_tokens = 3;  // two are there
    sampling->stop_token_ids = {2};
  }
}

TEST(EditedRowTest, MasksEditRowsThatAreChosenFromShards) {
  for (int kind = 0; kind < kNumMasks; ++kind) {
    Slot slot = ListedSlot();
    AddMask(kind, &slot.sampling);
    Slot nucleus = slot, plain = slot, many = slot;
    nucleus.sampling.top_k = plain.sampling.top_k = 0;
    nucleus.sampling.top_p = 0.5f;
    many.sampling.top_k = kMaxListed + 1;
    EXPECT_TRUE(IsListedRow(slot)) << kind;
    EXPECT_TRUE(IsNucleusRow(nucleus)) << kind;
    EXPECT_FALSE(IsPlainRow(plain)) << kind;
    for (Slot* one : {&slot, &nucleus, &plain}) {
      EXPECT_TRUE(IsEditedRow(*one)) << kind;
      one->tokens.push_back(9);  // min_tokens are there
      EXPECT_EQ(IsEditedRow(*one), kind != 3) << kind;
    }
    EXPECT_FALSE(IsEditedRow(many)) << kind;
  }
}

TEST(ListedRowTest, LogprobsLeaveARowToShards) {
  Slot slot = ListedSlot();
  slot.sampling.num_logprobs = 3;
  EXPECT_TRUE(IsListedRow(slot));
  slot.sampling.top_k = 0;
  slot.sampling.top_p = 0.5f;
  EXPECT_TRUE(IsNucleusRow(slot));
  EXPECT_FALSE(IsEditedRow(slot));
  slot.sampling.presence_penalty = 1;
  EXPECT_TRUE(IsEditedRow(slot));
}

constexpr int kNumEdits = 4;

void AddEdit(int kind, SlotSampling* sampling) {
  if (kind == 0) sampling->presence_penalty = 1;
  if (kind == 1) sampling->frequency_penalty = -1;
  if (kind == 2) sampling->repetition_penalty = 1.1f;
  if (kind == 3) sampling->logit_bias = {{4, 1.0f}};
}

TEST(EditedRowTest, PenaltiesAndBiasesEditRowsThatAreChosenFromShards) {
  for (int kind = 0; kind < kNumEdits; ++kind) {
    Slot slot = PlainSlot();
    EXPECT_FALSE(IsEditedRow(slot));
    AddEdit(kind, &slot.sampling);
    EXPECT_TRUE(IsEditedRow(slot)) << kind;
    slot.sampling.top_p = 0.5f;
    EXPECT_TRUE(IsEditedRow(slot)) << kind;
    EXPECT_TRUE(IsNucleusRow(slot)) << kind;
    slot.sampling.top_k = kMaxListed;
    EXPECT_TRUE(IsEditedRow(slot)) << kind;
    EXPECT_TRUE(IsListedRow(slot)) << kind;
    slot.sampling.temperature = 0;
    EXPECT_TRUE(IsEditedRow(slot)) << kind;
    EXPECT_FALSE(IsListedRow(slot)) << kind;
    EXPECT_FALSE(IsPlainRow(slot)) << kind;
  }
  EXPECT_FALSE(IsEditedRow(ListedSlot()));
}

TEST(EditedRowTest, ATopKThatCannotBeListedNeedsTheWholeRow) {
  Slot slot = ListedSlot();
  slot.sampling.presence_penalty = 1;
  slot.sampling.top_k = kMaxListed + 1;
  EXPECT_FALSE(IsEditedRow(slot));
  slot.sampling.temperature = 0;  // nobody looks at it
  EXPECT_TRUE(IsEditedRow(slot));
}

}  // namespace
}  // namespace quire
