// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/group_logprobs.h"

#include <algorithm>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr int64_t kMostBytes =
    LogprobBytes(LogprobStage::kSums, kMaxTopLogprobs);

}  // namespace

absl::StatusOr<std::unique_ptr<GroupLogprobs>> GroupLogprobs::Create(
    Backend* backend, Collective* collective, VocabShard vocab,
    int32_t max_num_seqs) {
  CHECK(backend->chooses_shaped());
  auto group = absl::WrapUnique(new GroupLogprobs(backend, collective, vocab));
  group->rows_.reserve(max_num_seqs);
  QUIRE_RETURN_IF_ERROR(
      group->input_.Reserve(max_num_seqs * int64_t{sizeof(LogprobRow)} + 16));
  QUIRE_RETURN_IF_ERROR(group->flights_.Reserve(max_num_seqs));
  const int64_t num_rows = max_num_seqs;
  const int64_t all_rows = num_rows * collective->world_size();
  QUIRE_ASSIGN_OR_RETURN(group->said_,
                         backend->Allocate(num_rows * kMostBytes));
  QUIRE_ASSIGN_OR_RETURN(group->chosen_,
                         backend->Allocate(all_rows * int64_t{sizeof(float)}));
  QUIRE_ASSIGN_OR_RETURN(group->sums_,
                         backend->Allocate(all_rows * kMostBytes));
  return group;
}

int32_t GroupLogprobs::Collect(absl::Span<const SlotId> slots,
                               const SlotStates& states) {
  rows_.clear();
  int32_t max_top = 0;
  for (int32_t row = 0; row < static_cast<int32_t>(slots.size()); ++row) {
    const int32_t num_top = states.slot(slots[row]).sampling.num_logprobs;
    if (num_top < 0) continue;
    rows_.push_back({row, num_top});
    max_top = std::max(max_top, num_top);
  }
  return max_top;
}

absl::Status GroupLogprobs::Say(LogprobStage stage, ShardLogprobsParams params,
                                DeviceBuffer* heard) {
  params.stage = stage;
  QUIRE_RETURN_IF_ERROR(backend_->TakeShardLogprobs(params));
  return collective_->EnqueueAllGather(
      said_->data(), heard->data(),
      params.num_rows * LogprobBytes(stage, params.max_top));
}

absl::Status GroupLogprobs::Enqueue(const float* logits,
                                    absl::Span<const SlotId> slots,
                                    const SlotStates& states, int32_t flight,
                                    const int32_t* tokens) {
  const int32_t max_top = Collect(slots, states);
  QUIRE_RETURN_IF_ERROR(flights_.Begin(flight, rows_));
  if (rows_.empty()) return absl::OkStatus();
  input_.Clear();
  const int64_t rows = input_.Add(rows_);
  QUIRE_RETURN_IF_ERROR(input_.Send(flight));
  ShardLogprobsParams params = {};
  params.logits = logits;
  params.num_vocab = vocab_.num_ids;
  params.first_id = vocab_.first_id;
  params.num_shards = collective_->world_size();
  params.rows = input_.At<LogprobRow>(rows);
  params.num_rows = static_cast<int32_t>(rows_.size());
  params.max_top = max_top;
  params.tokens = tokens;
  params.chosen = chosen_->as<float>();
  params.sums = sums_->as<ListedToken>();
  params.said = said_->data();
  params.logprobs = flights_.on_device();
  QUIRE_RETURN_IF_ERROR(Say(LogprobStage::kChosen, params, chosen_.get()));
  QUIRE_RETURN_IF_ERROR(Say(LogprobStage::kSums, params, sums_.get()));
  params.stage = LogprobStage::kLogprobs;
  QUIRE_RETURN_IF_ERROR(backend_->TakeShardLogprobs(params));
  return flights_.Fetch(flight);
}

}  // namespace quire
