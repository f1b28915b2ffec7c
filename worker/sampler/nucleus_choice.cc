// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/nucleus_choice.h"

#include <algorithm>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/sampler/plain_row.h"
#include "worker/sampler/shaped_row.h"

namespace quire {
namespace {

// What ranks gather at a time, of all ranks together: past some MiB a longer
// message is no faster a byte. Of 8 ranks, 512 rows.
constexpr int64_t kPieceBytes = 8 << 20;
// Of one row, in the stages that say most.
constexpr int64_t kMostBytes = NucleusBytes(NucleusStage::kEighths);

}  // namespace

absl::StatusOr<std::unique_ptr<NucleusChoice>> NucleusChoice::Create(
    Backend* backend, Collective* collective, VocabShard vocab,
    int32_t max_num_seqs) {
  CHECK(backend->chooses_shaped());
  auto choice = absl::WrapUnique(new NucleusChoice(backend, collective, vocab));
  choice->rows_.reserve(max_num_seqs);
  const int64_t row_bytes = max_num_seqs * int64_t{sizeof(ShapedRow)};
  for (auto& rows : choice->host_rows_) {
    QUIRE_ASSIGN_OR_RETURN(rows, backend->AllocateHost(row_bytes));
  }
  QUIRE_ASSIGN_OR_RETURN(choice->device_rows_, backend->Allocate(row_bytes));
  const int32_t world_size = collective->world_size();
  const int64_t piece = std::clamp<int64_t>(
      kPieceBytes / (world_size * kMostBytes), 1, max_num_seqs);
  choice->max_piece_rows_ = static_cast<int32_t>(piece);
  QUIRE_ASSIGN_OR_RETURN(choice->states_,
                         backend->Allocate(kNumNucleusStages * piece *
                                           int64_t{sizeof(NucleusState)}));
  QUIRE_ASSIGN_OR_RETURN(choice->own_, backend->Allocate(piece * kMostBytes));
  QUIRE_ASSIGN_OR_RETURN(choice->all_,
                         backend->Allocate(world_size * piece * kMostBytes));
  return choice;
}

absl::Status NucleusChoice::RunStages(NucleusParams params) {
  for (int32_t i = 0; i < kNumNucleusStages; ++i) {
    params.stage = static_cast<NucleusStage>(i);
    QUIRE_RETURN_IF_ERROR(backend_->ChooseFromNuclei(params));
    const int64_t bytes = params.num_rows * NucleusBytes(params.stage);
    if (bytes == 0) continue;
    QUIRE_RETURN_IF_ERROR(
        collective_->EnqueueAllGather(own_->data(), all_->data(), bytes));
  }
  return absl::OkStatus();
}

absl::Status NucleusChoice::Enqueue(const float* logits,
                                    absl::Span<const SlotId> slots,
                                    const SlotStates& states, int32_t flight,
                                    int32_t* tokens, int32_t* by_slot) {
  rows_.clear();
  for (int32_t row = 0; row < static_cast<int32_t>(slots.size()); ++row) {
    const Slot& slot = states.slot(slots[row]);
    if (IsNucleusRow(slot)) rows_.push_back(ShapedRowOf(row, slots[row], slot));
  }
  if (rows_.empty()) return absl::OkStatus();
  auto* const host_rows = host_rows_[flight]->as<ShapedRow>();
  std::copy(rows_.begin(), rows_.end(), host_rows);
  QUIRE_RETURN_IF_ERROR(backend_->CopyToDevice(
      host_rows, device_rows_->data(), rows_.size() * sizeof(ShapedRow)));
  NucleusParams params = {};
  params.logits = logits;
  params.num_vocab = vocab_.num_ids;
  params.first_id = vocab_.first_id;
  params.shard = collective_->rank();
  params.num_shards = collective_->world_size();
  params.states = states_->as<NucleusState>();
  params.heard = all_->data();
  params.said = own_->data();
  params.tokens = tokens;
  params.by_slot = by_slot;
  const int32_t num_rows = static_cast<int32_t>(rows_.size());
  for (int32_t row = 0; row < num_rows; row += max_piece_rows_) {
    params.rows = device_rows_->as<ShapedRow>() + row;
    params.num_rows = std::min(max_piece_rows_, num_rows - row);
    QUIRE_RETURN_IF_ERROR(RunStages(params));
  }
  return absl::OkStatus();
}

}  // namespace quire
