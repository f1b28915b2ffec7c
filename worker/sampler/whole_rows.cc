// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/whole_rows.h"

#include <algorithm>
#include <numeric>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

// What ranks gather at a time, of all ranks together, and rows of it: past some
// MiB a longer message is no faster a byte, and few rows beside one that is
// wanted travel in vain.
constexpr int64_t kPieceBytes = 8 << 20;
constexpr int64_t kMaxPieceRows = 16;
// Words that one run copies: a block of threads each, four rounds of 256.
constexpr int32_t kRunWords = 1024;

// Copies of `count` words in runs.
void AppendRuns(int32_t from, int32_t to, int32_t count,
                std::vector<WordRun>* runs) {
  for (int32_t at = 0; at < count; at += kRunWords) {
    runs->push_back({from + at, to + at, std::min(kRunWords, count - at)});
  }
}

}  // namespace

WholeRows::WholeRows(Backend* backend, Collective* collective, VocabShard vocab)
    : backend_(backend),
      collective_(collective),
      vocab_(vocab),
      shard_sizes_(collective->world_size()) {}

absl::StatusOr<std::unique_ptr<WholeRows>> WholeRows::Create(
    Backend* backend, Collective* collective, VocabShard vocab,
    int32_t max_num_seqs) {
  auto rows = absl::WrapUnique(new WholeRows(backend, collective, vocab));
  QUIRE_RETURN_IF_ERROR(collective->AllGather(
      &vocab.num_ids, rows->shard_sizes_.data(), sizeof(int32_t)));
  QUIRE_RETURN_IF_ERROR(rows->Allocate(max_num_seqs));
  QUIRE_RETURN_IF_ERROR(rows->SendRuns());
  return rows;
}

absl::Status WholeRows::Allocate(int32_t max_num_seqs) {
  const int64_t world_size = collective_->world_size();
  num_vocab_ = std::accumulate(shard_sizes_.begin(), shard_sizes_.end(), 0);
  max_shard_size_ = *std::max_element(shard_sizes_.begin(), shard_sizes_.end());
  const int64_t row_bytes = max_shard_size_ * int64_t{sizeof(float)};
  piece_rows_ = static_cast<int32_t>(
      std::clamp<int64_t>(kPieceBytes / (world_size * row_bytes), 1,
                          std::min<int64_t>(kMaxPieceRows, max_num_seqs)));
  QUIRE_ASSIGN_OR_RETURN(packed_, backend_->Allocate(piece_rows_ * row_bytes));
  QUIRE_ASSIGN_OR_RETURN(
      gathered_, backend_->Allocate(world_size * piece_rows_ * row_bytes));
  QUIRE_ASSIGN_OR_RETURN(rows_,
                         backend_->Allocate(int64_t{max_num_seqs} * num_vocab_ *
                                            int64_t{sizeof(float)}));
  return absl::OkStatus();
}

void WholeRows::AddRuns(int32_t num_rows) {
  Table table = {};
  table.first_put = static_cast<int32_t>(runs_.size());
  int32_t first_id = 0;
  for (int32_t rank = 0; rank < collective_->world_size(); ++rank) {
    for (int32_t row = 0; row < num_rows; ++row) {
      AppendRuns((rank * num_rows + row) * max_shard_size_,
                 row * num_vocab_ + first_id, shard_sizes_[rank], &runs_);
    }
    first_id += shard_sizes_[rank];
  }
  table.first_pack = static_cast<int32_t>(runs_.size());
  table.num_puts = table.first_pack - table.first_put;
  if (vocab_.num_ids < max_shard_size_) {
    for (int32_t row = 0; row < num_rows; ++row) {
      AppendRuns(row * vocab_.num_ids, row * max_shard_size_, vocab_.num_ids,
                 &runs_);
    }
  }
  table.num_packs = static_cast<int32_t>(runs_.size()) - table.first_pack;
  tables_.push_back(table);
}

absl::Status WholeRows::SendRuns() {
  for (int32_t num_rows = 0; num_rows <= piece_rows_; ++num_rows) {
    AddRuns(num_rows);
  }
  const int64_t bytes = runs_.size() * sizeof(WordRun);
  QUIRE_ASSIGN_OR_RETURN(device_runs_, backend_->Allocate(bytes));
  QUIRE_RETURN_IF_ERROR(
      backend_->CopyToDevice(runs_.data(), device_runs_->data(), bytes));
  return backend_->Synchronize();
}

absl::Status WholeRows::GatherPiece(const float* logits, int32_t first_row,
                                    int32_t num_rows) {
  const Table& table = tables_[num_rows];
  const WordRun* const runs = device_runs_->as<WordRun>();
  const float* own = logits + int64_t{first_row} * vocab_.num_ids;
  if (vocab_.num_ids < max_shard_size_) {
    QUIRE_RETURN_IF_ERROR(
        backend_->CopyRuns({.runs = runs + table.first_pack,
                            .values = reinterpret_cast<const int32_t*>(own),
                            .out = packed_->as<int32_t>(),
                            .num_runs = table.num_packs}));
    own = packed_->as<float>();
  }
  QUIRE_RETURN_IF_ERROR(collective_->EnqueueAllGather(
      own, gathered_->data(),
      int64_t{num_rows} * max_shard_size_ * int64_t{sizeof(float)}));
  float* const to = rows() + int64_t{first_row} * num_vocab_;
  return backend_->CopyRuns({.runs = runs + table.first_put,
                             .values = gathered_->as<int32_t>(),
                             .out = reinterpret_cast<int32_t*>(to),
                             .num_runs = table.num_puts});
}

absl::Status WholeRows::Gather(const float* logits,
                               absl::Span<const SlotId> slots,
                               const SlotStates& states,
                               const DeviceChooser& reader) {
  const int32_t num_rows = static_cast<int32_t>(slots.size());
  CHECK_LE(int64_t{num_rows} * num_vocab_ * int64_t{sizeof(float)},
           rows_->bytes());
  const auto is_read = [&](int32_t row) {
    return reader.Reads(states.slot(slots[row]));
  };
  int32_t row = 0;
  while (row < num_rows) {
    if (!is_read(row)) {
      ++row;
      continue;
    }
    int32_t end = std::min(row + piece_rows_, num_rows);
    while (!is_read(end - 1)) --end;
    QUIRE_RETURN_IF_ERROR(GatherPiece(logits, row, end - row));
    row = end;
  }
  return absl::OkStatus();
}

}  // namespace quire
