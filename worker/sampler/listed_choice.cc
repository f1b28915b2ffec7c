// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/listed_choice.h"

#include <algorithm>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/sampler/plain_row.h"
#include "worker/sampler/shaped_row.h"

namespace quire {
namespace {

// What ranks gather at a time, of all ranks together: past some MiB a longer
// message is no faster a byte. Of 256 rows and 8 ranks, lists of 511 tokens.
constexpr int64_t kPieceBytes = 8 << 20;

// Of one row.
int64_t ListBytes(int32_t max_tokens) {
  return (1 + int64_t{max_tokens}) * int64_t{sizeof(ListedToken)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<ListedChoice>> ListedChoice::Create(
    Backend* backend, Collective* collective, VocabShard vocab,
    int32_t max_num_seqs) {
  CHECK(backend->chooses_shaped());
  auto choice = absl::WrapUnique(new ListedChoice(backend, collective, vocab));
  choice->rows_.reserve(max_num_seqs);
  const int64_t row_bytes = max_num_seqs * int64_t{sizeof(ShapedRow)};
  for (auto& rows : choice->host_rows_) {
    QUIRE_ASSIGN_OR_RETURN(rows, backend->AllocateHost(row_bytes));
  }
  QUIRE_ASSIGN_OR_RETURN(choice->device_rows_, backend->Allocate(row_bytes));
  const int64_t list_bytes = max_num_seqs * ListBytes(kMaxListed);
  QUIRE_ASSIGN_OR_RETURN(choice->own_, backend->Allocate(list_bytes));
  QUIRE_ASSIGN_OR_RETURN(
      choice->all_, backend->Allocate(std::min(
                        kPieceBytes, collective->world_size() * list_bytes)));
  return choice;
}

int32_t ListedChoice::Collect(absl::Span<const SlotId> slots,
                              const SlotStates& states) {
  rows_.clear();
  int32_t max_tokens = 0;
  for (int32_t row = 0; row < static_cast<int32_t>(slots.size()); ++row) {
    const Slot& slot = states.slot(slots[row]);
    if (!IsListedRow(slot)) continue;
    rows_.push_back(ShapedRowOf(row, slots[row], slot));
    max_tokens = std::max(max_tokens, slot.sampling.top_k);
  }
  return max_tokens;
}

absl::Status ListedChoice::Enqueue(const float* logits,
                                   absl::Span<const SlotId> slots,
                                   const SlotStates& states, int32_t flight,
                                   int32_t* tokens, int32_t* by_slot) {
  const int32_t max_tokens = Collect(slots, states);
  if (rows_.empty()) return absl::OkStatus();
  auto* const host_rows = host_rows_[flight]->as<ShapedRow>();
  auto* const rows = device_rows_->as<ShapedRow>();
  std::copy(rows_.begin(), rows_.end(), host_rows);
  QUIRE_RETURN_IF_ERROR(backend_->CopyToDevice(
      host_rows, rows, rows_.size() * sizeof(ShapedRow)));
  const int32_t num_rows = static_cast<int32_t>(rows_.size());
  QUIRE_RETURN_IF_ERROR(
      backend_->ListTokens({.logits = logits,
                            .num_vocab = vocab_.num_ids,
                            .first_id = vocab_.first_id,
                            .rows = rows,
                            .num_rows = num_rows,
                            .max_tokens = max_tokens,
                            .lists = own_->as<ListedToken>()}));
  const int32_t world_size = collective_->world_size();
  const int64_t bytes = ListBytes(max_tokens);
  const int32_t piece_rows =
      static_cast<int32_t>(kPieceBytes / (world_size * bytes));
  for (int32_t row = 0; row < num_rows; row += piece_rows) {
    const int32_t count = std::min(piece_rows, num_rows - row);
    QUIRE_RETURN_IF_ERROR(collective_->EnqueueAllGather(
        own_->as<char>() + row * bytes, all_->data(), count * bytes));
    QUIRE_RETURN_IF_ERROR(
        backend_->MergeLists({.lists = all_->as<ListedToken>(),
                              .rows = rows + row,
                              .tokens = tokens,
                              .by_slot = by_slot,
                              .num_shards = world_size,
                              .num_rows = count,
                              .max_tokens = max_tokens}));
  }
  return absl::OkStatus();
}

}  // namespace quire
