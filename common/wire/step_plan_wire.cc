// SPDX-License-Identifier: Apache-2.0
#include "common/wire/step_plan_wire.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"
#include "common/wire/slot_sampling_wire.h"
#include "proto/worker.pb.h"

namespace quire {
namespace {

using Uint32Field = google::protobuf::RepeatedField<uint32_t>;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "tokens travel as little-endian words");

absl::Status FieldError(absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}

absl::Status Decode(absl::string_view field, uint32_t value, int32_t* out) {
  if (value > static_cast<uint32_t>(std::numeric_limits<int32_t>::max())) {
    return FieldError(field, absl::StrCat(value, " is above 2^31 - 1"));
  }
  *out = static_cast<int32_t>(value);
  return absl::OkStatus();
}

template <typename Id>
absl::Status Decode(absl::string_view field, uint32_t value, Id* out) {
  int32_t number = 0;
  QUIRE_RETURN_IF_ERROR(Decode(field, value, &number));
  *out = Id(number);
  return absl::OkStatus();
}

absl::Status CheckMultiple(absl::string_view field, int size, int unit) {
  if (size % unit == 0) return absl::OkStatus();
  return FieldError(
      field, absl::StrCat(size, " numbers are not a multiple of ", unit));
}

template <typename T>
absl::Status DecodeList(absl::string_view field, const Uint32Field& values,
                        std::vector<T>* out) {
  out->resize(values.size());
  for (int i = 0; i < values.size(); ++i) {
    QUIRE_RETURN_IF_ERROR(Decode(field, values[i], &(*out)[i]));
  }
  return absl::OkStatus();
}

// Flat pairs to structs, by two members.
template <typename T, typename A, typename B>
absl::Status DecodePairs(absl::string_view field, const Uint32Field& values,
                         A T::*first, B T::*second, std::vector<T>* out) {
  QUIRE_RETURN_IF_ERROR(CheckMultiple(field, values.size(), 2));
  out->resize(values.size() / 2);
  for (size_t i = 0; i < out->size(); ++i) {
    T& item = (*out)[i];
    QUIRE_RETURN_IF_ERROR(Decode(field, values[2 * i], &(item.*first)));
    QUIRE_RETURN_IF_ERROR(Decode(field, values[2 * i + 1], &(item.*second)));
  }
  return absl::OkStatus();
}

uint32_t Encode(int32_t value) { return static_cast<uint32_t>(value); }

template <typename Tag>
uint32_t Encode(StrongId<Tag, int32_t> id) {
  return Encode(id.value());
}

template <typename T, typename A, typename B>
void EncodePairs(const std::vector<T>& items, A T::*first, B T::*second,
                 Uint32Field* out) {
  out->Reserve(2 * items.size());
  for (const T& item : items) {
    out->AddAlreadyReserved(Encode(item.*first));
    out->AddAlreadyReserved(Encode(item.*second));
  }
}

void EncodeIdentity(const StepIdentity& identity, v1::EpochPair* epoch) {
  epoch->set_coordinator_epoch(identity.coordinator_epoch.value());
  epoch->set_group_epoch(identity.group_epoch.value());
}

StepIdentity DecodeIdentity(const v1::EpochPair& epoch, uint64_t step_id) {
  return {Epoch(epoch.coordinator_epoch()), Epoch(epoch.group_epoch()),
          StepId(step_id)};
}

void EncodeAdmitted(const AdmittedSlot& from, v1::AdmittedSlot* to) {
  to->set_slot(from.slot.value());
  to->set_sequence_id(from.sequence_id.value());
  to->set_tokens(from.tokens.data(), from.tokens.size() * sizeof(TokenId));
  to->set_num_prompt_tokens(from.num_prompt_tokens);
  to->set_num_computed_tokens(from.num_computed_tokens);
  EncodeSlotSampling(from.sampling, to->mutable_sampling());
  if (const auto* row = std::get_if<CacheRowId>(&from.cache)) {
    to->set_cache_row(row->value());
    return;
  }
  const auto& blocks = std::get<std::vector<BlockId>>(from.cache);
  Uint32Field* out = to->mutable_blocks()->mutable_blocks();
  out->Reserve(blocks.size());
  for (BlockId block : blocks) out->AddAlreadyReserved(block.value());
}

absl::Status DecodeTokens(const std::string& bytes, std::vector<TokenId>* out) {
  if (bytes.size() % sizeof(TokenId) != 0) {
    return FieldError("admitted.tokens",
                      absl::StrCat(bytes.size(), " bytes are not whole words"));
  }
  out->resize(bytes.size() / sizeof(TokenId));
  if (!bytes.empty()) std::memcpy(out->data(), bytes.data(), bytes.size());
  for (TokenId token : *out) {
    if (token < 0) {
      return FieldError("admitted.tokens",
                        absl::StrCat("token id ", token, " is negative"));
    }
  }
  return absl::OkStatus();
}

absl::Status DecodeCache(const v1::AdmittedSlot& from, CachePlacement* to) {
  if (from.cache_case() == v1::AdmittedSlot::kCacheRow) {
    CacheRowId row;
    QUIRE_RETURN_IF_ERROR(Decode("admitted.cache_row", from.cache_row(), &row));
    *to = row;
    return absl::OkStatus();
  }
  if (from.cache_case() != v1::AdmittedSlot::kBlocks) {
    return FieldError("admitted.cache", "neither blocks nor a cache row");
  }
  if (!std::holds_alternative<std::vector<BlockId>>(*to)) {
    *to = std::vector<BlockId>();
  }
  return DecodeList("admitted.blocks", from.blocks().blocks(),
                    &std::get<std::vector<BlockId>>(*to));
}

absl::Status DecodeAdmitted(const v1::AdmittedSlot& from, AdmittedSlot* to) {
  QUIRE_RETURN_IF_ERROR(Decode("admitted.slot", from.slot(), &to->slot));
  to->sequence_id = SequenceId(from.sequence_id());
  QUIRE_RETURN_IF_ERROR(DecodeTokens(from.tokens(), &to->tokens));
  QUIRE_RETURN_IF_ERROR(Decode("admitted.num_prompt_tokens",
                               from.num_prompt_tokens(),
                               &to->num_prompt_tokens));
  QUIRE_RETURN_IF_ERROR(Decode("admitted.num_computed_tokens",
                               from.num_computed_tokens(),
                               &to->num_computed_tokens));
  const int64_t num_tokens = to->tokens.size();
  if (num_tokens == 0) return FieldError("admitted.tokens", "none");
  if (to->num_prompt_tokens > num_tokens) {
    return FieldError(
        "admitted.num_prompt_tokens",
        absl::StrCat(to->num_prompt_tokens, " of ", num_tokens, " tokens"));
  }
  if (to->num_computed_tokens >= num_tokens) {
    return FieldError("admitted.num_computed_tokens",
                      absl::StrCat(to->num_computed_tokens, " of ", num_tokens,
                                   " tokens leaves none to compute"));
  }
  QUIRE_RETURN_IF_ERROR(DecodeSlotSampling(from.sampling(), &to->sampling));
  return DecodeCache(from, &to->cache);
}

absl::Status DecodeFork(const v1::SlotFork& from, SlotFork* to) {
  QUIRE_RETURN_IF_ERROR(
      Decode("forks.parent_slot", from.parent_slot(), &to->parent));
  QUIRE_RETURN_IF_ERROR(
      Decode("forks.child_slot", from.child_slot(), &to->child));
  to->child_sequence_id = SequenceId(from.child_sequence_id());
  to->child_seed = from.child_seed();
  return Decode("forks.num_tokens", from.num_tokens(), &to->num_tokens);
}

absl::Status DecodeReplaced(const Uint32Field& values,
                            std::vector<ReplacedBlock>* out) {
  constexpr absl::string_view kField = "replaced_blocks";
  QUIRE_RETURN_IF_ERROR(CheckMultiple(kField, values.size(), 3));
  out->resize(values.size() / 3);
  for (size_t i = 0; i < out->size(); ++i) {
    ReplacedBlock& item = (*out)[i];
    QUIRE_RETURN_IF_ERROR(Decode(kField, values[3 * i], &item.slot));
    QUIRE_RETURN_IF_ERROR(Decode(kField, values[3 * i + 1], &item.logical_idx));
    QUIRE_RETURN_IF_ERROR(Decode(kField, values[3 * i + 2], &item.block));
  }
  return absl::OkStatus();
}

absl::Status DecodeSlice(const v1::Slice& from, Slice* to) {
  QUIRE_RETURN_IF_ERROR(Decode("chunks.slot", from.slot(), &to->slot));
  QUIRE_RETURN_IF_ERROR(
      Decode("chunks.num_tokens", from.num_tokens(), &to->num_tokens));
  to->sample = from.sample();
  if (to->num_tokens > 0) return absl::OkStatus();
  return FieldError("chunks.num_tokens", "a slice of no tokens");
}

// Decodes each message of a repeated field by `decode`.
template <typename Message, typename T>
absl::Status DecodeEach(const google::protobuf::RepeatedPtrField<Message>& from,
                        absl::Status (*decode)(const Message&, T*),
                        std::vector<T>* to) {
  to->resize(from.size());
  for (int i = 0; i < from.size(); ++i) {
    QUIRE_RETURN_IF_ERROR(decode(from[i], &(*to)[i]));
  }
  return absl::OkStatus();
}

absl::Status DecodeLogprobs(const v1::SampledLogprobs& from,
                            SampledLogprobs* to) {
  QUIRE_RETURN_IF_ERROR(
      Decode("logprobs.sample_index", from.sample_index(), &to->sample_idx));
  QUIRE_RETURN_IF_ERROR(Decode("logprobs.rank", from.rank(), &to->rank));
  to->logprob = from.logprob();
  if (from.top_logprobs_size() != from.top_token_ids_size()) {
    return FieldError("logprobs.top_logprobs",
                      absl::StrCat(from.top_logprobs_size(), " values for ",
                                   from.top_token_ids_size(), " tokens"));
  }
  to->top.resize(from.top_token_ids_size());
  for (int i = 0; i < from.top_token_ids_size(); ++i) {
    QUIRE_RETURN_IF_ERROR(Decode("logprobs.top_token_ids",
                                 from.top_token_ids(i), &to->top[i].token_id));
    to->top[i].logprob = from.top_logprobs(i);
  }
  return absl::OkStatus();
}

void EncodeLogprobs(const SampledLogprobs& from, v1::SampledLogprobs* to) {
  to->set_sample_index(from.sample_idx);
  to->set_logprob(from.logprob);
  to->set_rank(from.rank);
  for (const TopLogprob& top : from.top) {
    to->add_top_token_ids(top.token_id);
    to->add_top_logprobs(top.logprob);
  }
}

absl::Status DecodePromptLogprobs(const v1::PromptLogprobs& from,
                                  PromptLogprobs* to) {
  to->sequence_id = SequenceId(from.sequence_id());
  QUIRE_RETURN_IF_ERROR(Decode("prompt_logprobs.first_token",
                               from.first_token(), &to->first_token));
  return DecodeEach(from.tokens(), &DecodeLogprobs, &to->tokens);
}

void EncodeBlockChanges(const StepPlan& plan, v1::StepPlan* message) {
  Uint32Field* replaced = message->mutable_replaced_blocks();
  replaced->Reserve(3 * plan.replaced.size());
  for (const ReplacedBlock& item : plan.replaced) {
    replaced->AddAlreadyReserved(item.slot.value());
    replaced->AddAlreadyReserved(item.logical_idx);
    replaced->AddAlreadyReserved(item.block.value());
  }
  EncodePairs(plan.appended, &AppendedBlock::slot, &AppendedBlock::block,
              message->mutable_appended_blocks());
  EncodePairs(plan.mappings, &RowMapping::row, &RowMapping::num_page_groups,
              message->mutable_row_mappings());
  EncodePairs(plan.swap_outs, &BlockSwap::device, &BlockSwap::host,
              message->mutable_swap_outs());
  EncodePairs(plan.swap_ins, &BlockSwap::host, &BlockSwap::device,
              message->mutable_swap_ins());
  EncodePairs(plan.copies, &BlockCopy::src, &BlockCopy::dst,
              message->mutable_block_copies());
}

absl::Status DecodeBlockChanges(const v1::StepPlan& message, StepPlan* plan) {
  QUIRE_RETURN_IF_ERROR(
      DecodeReplaced(message.replaced_blocks(), &plan->replaced));
  QUIRE_RETURN_IF_ERROR(DecodePairs(
      "appended_blocks", message.appended_blocks(), &AppendedBlock::slot,
      &AppendedBlock::block, &plan->appended));
  QUIRE_RETURN_IF_ERROR(
      DecodePairs("row_mappings", message.row_mappings(), &RowMapping::row,
                  &RowMapping::num_page_groups, &plan->mappings));
  QUIRE_RETURN_IF_ERROR(DecodePairs("swap_outs", message.swap_outs(),
                                    &BlockSwap::device, &BlockSwap::host,
                                    &plan->swap_outs));
  QUIRE_RETURN_IF_ERROR(DecodePairs("swap_ins", message.swap_ins(),
                                    &BlockSwap::host, &BlockSwap::device,
                                    &plan->swap_ins));
  return DecodePairs("block_copies", message.block_copies(), &BlockCopy::src,
                     &BlockCopy::dst, &plan->copies);
}

}  // namespace

void EncodeStepPlan(const StepPlan& plan, v1::StepPlan* message) {
  message->Clear();  // keeps the capacity of every field
  EncodeIdentity(plan.identity, message->mutable_epoch());
  message->set_step_id(plan.identity.step_id.value());
  message->set_resync(plan.resync);
  for (SlotId slot : plan.released) {
    message->add_released_slots(slot.value());
  }
  for (const SlotFork& fork : plan.forks) {
    v1::SlotFork* out = message->add_forks();
    out->set_parent_slot(fork.parent.value());
    out->set_child_slot(fork.child.value());
    out->set_child_sequence_id(fork.child_sequence_id.value());
    out->set_child_seed(fork.child_seed);
    out->set_num_tokens(fork.num_tokens);
  }
  EncodePairs(plan.next_tokens, &NextToken::slot, &NextToken::token,
              message->mutable_next_tokens());
  for (const AdmittedSlot& admitted : plan.admitted) {
    EncodeAdmitted(admitted, message->add_admitted());
  }
  EncodeBlockChanges(plan, message);
  for (const SlotMask& mask : plan.masks) {
    EncodeSlotMask(mask, message->add_masks());
  }
  message->mutable_decode_slots()->Reserve(plan.decodes.size());
  for (SlotId slot : plan.decodes) {
    message->mutable_decode_slots()->AddAlreadyReserved(slot.value());
  }
  for (const Slice& slice : plan.chunks) {
    v1::Slice* out = message->add_chunks();
    out->set_slot(slice.slot.value());
    out->set_num_tokens(slice.num_tokens);
    out->set_sample(slice.sample);
  }
}

absl::Status DecodeStepPlan(const v1::StepPlan& message, StepPlan* plan) {
  plan->identity = DecodeIdentity(message.epoch(), message.step_id());
  plan->resync = message.resync();
  QUIRE_RETURN_IF_ERROR(
      DecodeList("released_slots", message.released_slots(), &plan->released));
  QUIRE_RETURN_IF_ERROR(DecodeEach(message.forks(), &DecodeFork, &plan->forks));
  QUIRE_RETURN_IF_ERROR(DecodePairs("next_tokens", message.next_tokens(),
                                    &NextToken::slot, &NextToken::token,
                                    &plan->next_tokens));
  QUIRE_RETURN_IF_ERROR(
      DecodeEach(message.admitted(), &DecodeAdmitted, &plan->admitted));
  QUIRE_RETURN_IF_ERROR(DecodeBlockChanges(message, plan));
  QUIRE_RETURN_IF_ERROR(
      DecodeEach(message.masks(), &DecodeSlotMask, &plan->masks));
  QUIRE_RETURN_IF_ERROR(
      DecodeList("decode_slots", message.decode_slots(), &plan->decodes));
  return DecodeEach(message.chunks(), &DecodeSlice, &plan->chunks);
}

void EncodeStepResult(const StepResult& result, v1::StepResult* message) {
  message->Clear();
  EncodeIdentity(result.identity, message->mutable_epoch());
  message->set_step_id(result.identity.step_id.value());
  message->mutable_token_ids()->Reserve(result.tokens.size());
  for (TokenId token : result.tokens) {
    message->mutable_token_ids()->AddAlreadyReserved(token);
  }
  for (const SampledLogprobs& logprobs : result.logprobs) {
    EncodeLogprobs(logprobs, message->add_logprobs());
  }
  for (const PromptLogprobs& prompt : result.prompt_logprobs) {
    v1::PromptLogprobs* out = message->add_prompt_logprobs();
    out->set_sequence_id(prompt.sequence_id.value());
    out->set_first_token(prompt.first_token);
    for (const SampledLogprobs& token : prompt.tokens) {
      EncodeLogprobs(token, out->add_tokens());
    }
  }
  message->set_token_digest(result.token_digest);
  message->set_table_digest(result.table_digest);
  message->set_step_us(result.step_us);
}

absl::Status DecodeStepResult(const v1::StepResult& message,
                              StepResult* result) {
  result->identity = DecodeIdentity(message.epoch(), message.step_id());
  QUIRE_RETURN_IF_ERROR(
      DecodeList("token_ids", message.token_ids(), &result->tokens));
  QUIRE_RETURN_IF_ERROR(
      DecodeEach(message.logprobs(), &DecodeLogprobs, &result->logprobs));
  for (const SampledLogprobs& logprobs : result->logprobs) {
    if (logprobs.sample_idx >= static_cast<int64_t>(result->tokens.size())) {
      return FieldError("logprobs.sample_index",
                        absl::StrCat(logprobs.sample_idx, " of ",
                                     result->tokens.size(), " tokens"));
    }
  }
  QUIRE_RETURN_IF_ERROR(DecodeEach(message.prompt_logprobs(),
                                   &DecodePromptLogprobs,
                                   &result->prompt_logprobs));
  result->token_digest = message.token_digest();
  result->table_digest = message.table_digest();
  return Decode("step_us", message.step_us(), &result->step_us);
}

}  // namespace quire
