// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/prompt_scorer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

int64_t MessageBytes(int64_t num_rows, int64_t num_candidates) {
  return num_rows * static_cast<int64_t>(sizeof(ShardSummary) +
                                         num_candidates * sizeof(Candidate));
}

}  // namespace

PromptScorer::PromptScorer(Backend* backend, Collective* collective,
                           VocabShard vocab, int32_t max_num_rows)
    : backend_(backend),
      collective_(collective),
      vocab_(vocab),
      max_num_rows_(max_num_rows),
      shards_(collective->world_size()) {}

absl::StatusOr<std::unique_ptr<PromptScorer>> PromptScorer::Create(
    Backend* backend, Collective* collective, VocabShard vocab,
    int32_t max_num_rows) {
  auto scorer = absl::WrapUnique(
      new PromptScorer(backend, collective, vocab, max_num_rows));
  const int64_t bytes = MessageBytes(max_num_rows, kMaxSlotLogprobs);
  QUIRE_ASSIGN_OR_RETURN(
      scorer->rows_, backend->AllocateHost(max_num_rows * sizeof(SampleRow)));
  QUIRE_ASSIGN_OR_RETURN(scorer->sent_, backend->AllocateHost(bytes));
  QUIRE_ASSIGN_OR_RETURN(
      scorer->gathered_,
      backend->AllocateHost(collective->world_size() * bytes));
  return scorer;
}

absl::Status PromptScorer::Exchange(const float* logits,
                                    int32_t num_candidates) {
  SampleShardParams params = {};
  params.logits = logits;
  params.first_id = vocab_.first_id;
  params.num_vocab = vocab_.num_ids;
  params.num_rows = num_rows_;
  params.rows = rows_->as<SampleRow>();
  params.summaries = sent_->as<ShardSummary>();
  params.candidates =
      reinterpret_cast<Candidate*>(sent_->as<ShardSummary>() + num_rows_);
  params.num_candidates = num_candidates;
  QUIRE_RETURN_IF_ERROR(backend_->SampleShard(params));
  QUIRE_RETURN_IF_ERROR(
      collective_->AllGather(sent_->data(), gathered_->data(),
                             MessageBytes(num_rows_, num_candidates)));
  return backend_->Synchronize();
}

absl::Span<const ShardRow> PromptScorer::Shards(int32_t row_idx,
                                                int32_t num_candidates) {
  const int64_t bytes = MessageBytes(num_rows_, num_candidates);
  for (int32_t rank = 0; rank < collective_->world_size(); ++rank) {
    const auto* summaries = reinterpret_cast<const ShardSummary*>(
        gathered_->as<char>() + rank * bytes);
    shards_[rank].summary = summaries + row_idx;
    shards_[rank].candidates =
        reinterpret_cast<const Candidate*>(summaries + num_rows_) +
        int64_t{row_idx} * num_candidates;
    shards_[rank].num_candidates = num_candidates;
    // One that has fewer columns says so by an id of -1.
    shards_[rank].num_ids = std::numeric_limits<int32_t>::max();
  }
  return shards_;
}

absl::Status PromptScorer::Score(const float* logits,
                                 absl::Span<const ScoredToken> tokens,
                                 std::vector<SampledLogprobs>* out) {
  if (tokens.empty()) return absl::OkStatus();
  CHECK_LE(tokens.size(), max_num_rows_);
  num_rows_ = static_cast<int32_t>(tokens.size());
  const size_t first_out = out->size();
  SampleRow* rows = rows_->as<SampleRow>();
  // The owner of a token's column says its logit; that known, every rank counts
  // what is above it.
  for (int32_t i = 0; i < num_rows_; ++i) {
    rows[i] = {};
    rows[i].repetition_penalty = 1;
    rows[i].is_scored = 1;
    rows[i].scored_id = tokens[i].token_id;
    rows[i].count_above = kInf;
  }
  int32_t num_top = 0;
  for (const ScoredToken& token : tokens) {
    num_top = std::max(num_top, token.num_top);
  }
  QUIRE_RETURN_IF_ERROR(Exchange(logits, num_top));
  for (int32_t i = 0; i < num_rows_; ++i) {
    const absl::Span<const ShardRow> shards = Shards(i, num_top);
    float raw_logit = -kInf;
    for (const ShardRow& shard : shards) {
      if (std::isnan(shard.summary->raw_max)) {
        return absl::InternalError(
            "the logits of a prompt hold NaN or infinity");
      }
      raw_logit = std::max(raw_logit, shard.summary->scored_logit);
    }
    rows[i].count_above = raw_logit;
    out->push_back(LogprobsOf(shards, raw_logit, tokens[i].num_top));
  }
  QUIRE_RETURN_IF_ERROR(Exchange(logits, /*num_candidates=*/0));
  for (int32_t i = 0; i < num_rows_; ++i) {
    int32_t num_above = 0;
    for (const ShardRow& shard : Shards(i, /*num_candidates=*/0)) {
      num_above += shard.summary->num_above;
    }
    (*out)[first_out + i].rank = num_above + 1;
  }
  return absl::OkStatus();
}

}  // namespace quire
