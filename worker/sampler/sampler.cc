// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/sampler/bad_words.h"

namespace quire {
namespace {

constexpr float kGreedyTemperature = 1e-5f;

// Candidates a row and rank exchanges at first: 1.5 KB. A trained model's
// nucleus at top_p 0.95 is mostly below 100 tokens.
constexpr int64_t kFirstWidth = 128;
// Then this many, then all.
constexpr int64_t kSecondWidth = 2048;

// A row that leaves the logits as they are.
SampleRow NeutralRow() {
  SampleRow row = {};
  row.repetition_penalty = 1;
  return row;
}

SampleRow RowOf(const Slot& slot) {
  const SlotSampling& sampling = slot.sampling;
  SampleRow row = {};
  row.seed = sampling.seed;
  row.position = slot.num_tokens();
  row.temperature = sampling.temperature;
  row.presence_penalty = sampling.presence_penalty;
  row.frequency_penalty = sampling.frequency_penalty;
  row.repetition_penalty = sampling.repetition_penalty;
  if (TokenCounts::IsNeeded(sampling)) {
    row.seen = slot.counts.seen().data();
    row.num_seen = static_cast<int32_t>(slot.counts.seen().size());
  }
  row.biases = sampling.logit_bias.data();
  row.num_biases = static_cast<int32_t>(sampling.logit_bias.size());
  if (!slot.allowed.empty()) {
    row.allowed = slot.allowed.data();
    row.num_allowed_words = static_cast<int32_t>(slot.allowed.size());
  }
  return row;
}

// The most tokens that MaskTokens finds.
size_t MaxMasked(const SlotSampling& sampling) {
  return sampling.bad_words.size() +
         (sampling.min_tokens > 0 ? sampling.stop_token_ids.size() : 0);
}

// What the kernel divides logits by.
float DivisorOf(const SlotSampling& sampling) {
  return sampling.temperature < kGreedyTemperature ? 1 : sampling.temperature;
}

}  // namespace

Sampler::Sampler(Backend* backend, Collective* collective, VocabShard vocab,
                 int32_t max_num_seqs)
    : backend_(backend),
      collective_(collective),
      vocab_(vocab),
      max_num_seqs_(max_num_seqs),
      shard_sizes_(collective->world_size()),
      shards_(collective->world_size()) {
  rows_.reserve(max_num_seqs);
  pending_.reserve(max_num_seqs);
  still_pending_.reserve(max_num_seqs);
}

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(Backend* backend,
                                                         Collective* collective,
                                                         VocabShard vocab,
                                                         int32_t max_num_seqs) {
  auto sampler =
      absl::WrapUnique(new Sampler(backend, collective, vocab, max_num_seqs));
  QUIRE_RETURN_IF_ERROR(sampler->Init());
  return sampler;
}

absl::Status Sampler::Init() {
  const int64_t world = collective_->world_size();
  const int64_t candidate_bytes =
      std::max(max_num_seqs_ * kFirstWidth, kSecondWidth) * sizeof(Candidate);
  const int64_t summary_bytes = max_num_seqs_ * sizeof(ShardSummary);
  QUIRE_ASSIGN_OR_RETURN(
      row_buffer_, backend_->AllocateHost(max_num_seqs_ * sizeof(SampleRow)));
  QUIRE_ASSIGN_OR_RETURN(summaries_, backend_->AllocateHost(summary_bytes));
  QUIRE_ASSIGN_OR_RETURN(
      gathered_first_,
      backend_->AllocateHost(world * (summary_bytes + candidate_bytes)));
  QUIRE_RETURN_IF_ERROR(Reserve(summary_bytes + candidate_bytes));
  int32_t* sizes = gathered_first_->as<int32_t>();
  sizes[collective_->rank()] = vocab_.num_ids;
  QUIRE_RETURN_IF_ERROR(collective_->AllGather(sizes + collective_->rank(),
                                               sizes, sizeof(int32_t)));
  QUIRE_RETURN_IF_ERROR(backend_->Synchronize());
  shard_sizes_.assign(sizes, sizes + world);
  max_shard_size_ = *std::max_element(shard_sizes_.begin(), shard_sizes_.end());
  return absl::OkStatus();
}

// Room for one rank's message of `bytes`.
absl::Status Sampler::Reserve(int64_t bytes) {
  if (sent_ != nullptr && sent_->bytes() >= bytes) return absl::OkStatus();
  QUIRE_ASSIGN_OR_RETURN(candidates_, backend_->AllocateHost(bytes));
  QUIRE_ASSIGN_OR_RETURN(sent_, backend_->AllocateHost(bytes));
  QUIRE_ASSIGN_OR_RETURN(
      gathered_more_,
      backend_->AllocateHost(collective_->world_size() * bytes));
  return absl::OkStatus();
}

absl::Status Sampler::NameSlot(int32_t row_idx,
                               const absl::Status& status) const {
  return absl::Status(
      status.code(),
      absl::StrCat("slot ", slots_[row_idx].value(), ": ", status.message()));
}

void Sampler::MaskTokens(const Slot& slot, SampleRow* row) {
  const SlotSampling& sampling = slot.sampling;
  const size_t first = masked_.size();
  const int32_t num_outputs = slot.num_tokens() - slot.num_prompt;
  if (num_outputs < sampling.min_tokens) {
    masked_.insert(masked_.end(), sampling.stop_token_ids.begin(),
                   sampling.stop_token_ids.end());
  }
  if (!sampling.bad_words.empty()) {
    AppendBadTokens(sampling.bad_words,
                    absl::MakeConstSpan(slot.tokens).last(num_outputs),
                    &masked_);
  }
  row->num_masked = static_cast<int32_t>(masked_.size() - first);
  row->masked = row->num_masked > 0 ? masked_.data() + first : nullptr;
}

bool Sampler::RelaxRows() {
  SampleRow* rows = row_buffer_->as<SampleRow>();
  bool any = false;
  for (int32_t row_idx = 0; row_idx < static_cast<int32_t>(rows_.size());
       ++row_idx) {
    if (rows[row_idx].num_masked == 0) continue;
    const absl::Span<const ShardRow> shards = FirstShards(row_idx);
    const bool has_token =
        std::any_of(shards.begin(), shards.end(), [](const ShardRow& shard) {
          return shard.summary->best_token_id >= 0 ||
                 std::isnan(shard.summary->raw_max);
        });
    if (has_token) continue;
    rows[row_idx].num_masked = 0;
    any = true;
  }
  return any;
}

void Sampler::BuildRows(absl::Span<const SlotId> slots,
                        const SlotStates& states) {
  SampleRow* rows = row_buffer_->as<SampleRow>();
  rows_.clear();
  num_packed_ = 0;
  slots_ = slots;
  size_t max_masked = 0;
  for (SlotId slot_id : slots) {
    max_masked += MaxMasked(states.slot(slot_id).sampling);
  }
  masked_.clear();
  masked_.reserve(max_masked);  // rows point into it
  for (SlotId slot_id : slots) {
    const Slot& slot = states.slot(slot_id);
    SampleRow& row = rows[rows_.size()];
    row = RowOf(slot);
    MaskTokens(slot, &row);
    const bool is_plain = row.seen == nullptr && row.num_masked == 0 &&
                          row.num_biases == 0 && row.allowed == nullptr;
    const bool wants_candidates = NeedsCandidates(slot.sampling) ||
                                  (slot.sampling.num_logprobs >= 0 && is_plain);
    row.skips_candidates = wants_candidates ? 0 : 1;
    rows_.push_back(
        {&slot, wants_candidates ? num_packed_++ : -1, is_plain, {}});
  }
  first_width_ = static_cast<int32_t>(
      num_packed_ > 0 ? std::min<int64_t>(kFirstWidth, max_shard_size_) : 0);
}

absl::Status Sampler::RunShard(const float* logits, int32_t num_candidates) {
  SampleShardParams params = {};
  params.logits = logits;
  params.first_id = vocab_.first_id;
  params.num_vocab = vocab_.num_ids;
  params.num_rows = static_cast<int32_t>(rows_.size());
  params.rows = row_buffer_->as<SampleRow>();
  params.summaries = summaries_->as<ShardSummary>();
  params.candidates = candidates_->as<Candidate>();
  params.num_candidates = num_candidates;
  return backend_->SampleShard(params);
}

// One message a rank: every row's summary, then the candidates of the rows that
// want them.
absl::Status Sampler::ExchangeFirst(int32_t num_candidates) {
  const int64_t summary_bytes = rows_.size() * sizeof(ShardSummary);
  const int64_t row_bytes = num_candidates * sizeof(Candidate);
  first_bytes_ = summary_bytes + num_packed_ * row_bytes;
  char* out = sent_->as<char>();
  std::memcpy(out, summaries_->data(), summary_bytes);
  for (size_t row_idx = 0; row_idx < rows_.size(); ++row_idx) {
    if (rows_[row_idx].packed_idx < 0) continue;
    std::memcpy(out + summary_bytes + rows_[row_idx].packed_idx * row_bytes,
                candidates_->as<char>() + row_idx * row_bytes, row_bytes);
  }
  QUIRE_RETURN_IF_ERROR(collective_->AllGather(
      sent_->data(), gathered_first_->data(), first_bytes_));
  return backend_->Synchronize();
}

absl::Span<const ShardRow> Sampler::FirstShards(int32_t row_idx) {
  const int64_t summary_bytes = rows_.size() * sizeof(ShardSummary);
  const int32_t packed_idx = rows_[row_idx].packed_idx;
  for (int32_t rank = 0; rank < collective_->world_size(); ++rank) {
    const char* message = gathered_first_->as<char>() + rank * first_bytes_;
    ShardRow& shard = shards_[rank];
    shard.summary = reinterpret_cast<const ShardSummary*>(message) + row_idx;
    shard.num_ids = shard_sizes_[rank];
    shard.candidates = nullptr;
    shard.num_candidates = 0;
    if (packed_idx < 0) continue;
    shard.candidates =
        reinterpret_cast<const Candidate*>(message + summary_bytes) +
        int64_t{packed_idx} * first_width_;
    shard.num_candidates = first_width_;
  }
  return shards_;
}

absl::Status Sampler::ExchangeMore(const float* logits, bool is_neutral,
                                   absl::Span<const int32_t> row_idxs,
                                   int32_t width) {
  const int64_t bytes = row_idxs.size() * width * sizeof(Candidate);
  QUIRE_RETURN_IF_ERROR(Reserve(bytes));
  SampleRow* rows = row_buffer_->as<SampleRow>();
  for (size_t i = 0; i < row_idxs.size(); ++i) {
    const int32_t row_idx = row_idxs[i];
    if (is_neutral) rows[row_idx] = NeutralRow();
    rows[row_idx].skips_candidates = 0;
    SampleShardParams params = {};
    params.logits = logits + int64_t{row_idx} * vocab_.num_ids;
    params.first_id = vocab_.first_id;
    params.num_vocab = vocab_.num_ids;
    params.num_rows = 1;
    params.rows = rows + row_idx;
    params.summaries = summaries_->as<ShardSummary>() + row_idx;
    params.candidates = sent_->as<Candidate>() + i * width;
    params.num_candidates = width;
    QUIRE_RETURN_IF_ERROR(backend_->SampleShard(params));
  }
  QUIRE_RETURN_IF_ERROR(
      collective_->AllGather(sent_->data(), gathered_more_->data(), bytes));
  return backend_->Synchronize();
}

absl::Status Sampler::Widen(const float* logits, bool is_neutral,
                            int64_t first_width, Decide decide) {
  for (int64_t width = first_width; !pending_.empty();
       width = width < kSecondWidth ? kSecondWidth : max_shard_size_) {
    width = std::min<int64_t>(width, max_shard_size_);
    const int64_t batch =
        std::max<int64_t>(1, max_num_seqs_ * kFirstWidth / width);
    still_pending_.clear();
    for (size_t begin = 0; begin < pending_.size(); begin += batch) {
      const absl::Span<const int32_t> row_idxs =
          absl::MakeConstSpan(pending_).subspan(begin, batch);
      QUIRE_RETURN_IF_ERROR(ExchangeMore(logits, is_neutral, row_idxs,
                                         static_cast<int32_t>(width)));
      for (size_t i = 0; i < row_idxs.size(); ++i) {
        FirstShards(row_idxs[i]);  // the summaries
        for (int32_t rank = 0; rank < collective_->world_size(); ++rank) {
          shards_[rank].candidates = gathered_more_->as<Candidate>() +
                                     (rank * row_idxs.size() + i) * width;
          shards_[rank].num_candidates = static_cast<int32_t>(width);
        }
        QUIRE_ASSIGN_OR_RETURN(const bool is_decided,
                               decide(row_idxs[i], shards_));
        if (!is_decided) still_pending_.push_back(row_idxs[i]);
      }
    }
    CHECK(still_pending_.empty() || width < max_shard_size_);
    pending_.swap(still_pending_);
  }
  return absl::OkStatus();
}

absl::Status Sampler::ChooseAll(const float* logits) {
  const auto decide =
      [this](int32_t row_idx,
             absl::Span<const ShardRow> shards) -> absl::StatusOr<bool> {
    RowState& row = rows_[row_idx];
    const auto chosen =
        ChooseToken(shards, row.slot->sampling, row.slot->num_tokens(), &kept_);
    if (!chosen.ok()) return NameSlot(row_idx, chosen.status());
    if (chosen->has_value()) row.chosen = **chosen;
    return chosen->has_value();
  };
  pending_.clear();
  for (int32_t row_idx = 0; row_idx < static_cast<int32_t>(rows_.size());
       ++row_idx) {
    QUIRE_ASSIGN_OR_RETURN(const bool is_decided,
                           decide(row_idx, FirstShards(row_idx)));
    if (!is_decided) pending_.push_back(row_idx);
  }
  return Widen(logits, /*is_neutral=*/false, kSecondWidth, decide);
}

absl::Status Sampler::FillAllLogprobs(const float* logits, SampledTokens* out) {
  const bool is_wanted = std::any_of(
      rows_.begin(), rows_.end(),
      [](const RowState& row) { return row.slot->sampling.num_logprobs >= 0; });
  if (!is_wanted) return absl::OkStatus();
  std::vector<int32_t> entry_of(rows_.size(), -1);
  const auto fill = [&](int32_t row_idx, absl::Span<const ShardRow> shards,
                        float divisor) {
    return FillLogprobs(shards, rows_[row_idx].chosen, divisor,
                        rows_[row_idx].slot->sampling.num_logprobs,
                        &out->logprobs[entry_of[row_idx]]);
  };
  pending_.clear();
  for (int32_t row_idx = 0; row_idx < static_cast<int32_t>(rows_.size());
       ++row_idx) {
    const SlotSampling& sampling = rows_[row_idx].slot->sampling;
    if (sampling.num_logprobs < 0) continue;
    entry_of[row_idx] = static_cast<int32_t>(out->logprobs.size());
    out->logprobs.push_back({row_idx, 0, 0, {}});
    if (!rows_[row_idx].is_plain ||
        !fill(row_idx, FirstShards(row_idx), DivisorOf(sampling))) {
      pending_.push_back(row_idx);
    }
  }
  return Widen(logits, /*is_neutral=*/true, kFirstWidth,
               [&](int32_t row_idx,
                   absl::Span<const ShardRow> shards) -> absl::StatusOr<bool> {
                 return fill(row_idx, shards, /*divisor=*/1);
               });
}

absl::Status Sampler::Sample(const float* logits,
                             absl::Span<const SlotId> slots,
                             const SlotStates& states, SampledTokens* out) {
  out->tokens.clear();
  out->logprobs.clear();
  if (slots.empty()) return absl::OkStatus();
  CHECK_LE(slots.size(), max_num_seqs_);
  BuildRows(slots, states);
  QUIRE_RETURN_IF_ERROR(RunShard(logits, first_width_));
  QUIRE_RETURN_IF_ERROR(ExchangeFirst(first_width_));
  // All ranks have the same summaries, so all do the same.
  if (RelaxRows()) {
    QUIRE_RETURN_IF_ERROR(RunShard(logits, first_width_));
    QUIRE_RETURN_IF_ERROR(ExchangeFirst(first_width_));
  }
  QUIRE_RETURN_IF_ERROR(ChooseAll(logits));
  for (const RowState& row : rows_) out->tokens.push_back(row.chosen.token_id);
  return FillAllLogprobs(logits, out);
}

}  // namespace quire
