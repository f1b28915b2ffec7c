// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/merge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "kernels/philox.h"

namespace quire {
namespace {

constexpr float kGreedyTemperature = 1e-5f;
constexpr double kInf = std::numeric_limits<double>::infinity();

// The noise of kernels/sample.h.
double Noise(uint64_t seed, int64_t position, TokenId token_id) {
  const double u =
      ((TokenRandomWord(seed, position, token_id) >> 1) + 0.5) * 0x1p-31;
  return -std::log(-std::log1p(-u));
}

absl::Status CheckSane(absl::Span<const ShardRow> shards) {
  for (const ShardRow& shard : shards) {
    if (std::isnan(shard.summary->raw_max)) {
      return absl::InternalError("the logits hold NaN or infinity");
    }
    if (shard.summary->max == kInf) {
      return absl::InternalError("the logits overflow at this temperature");
    }
  }
  return absl::OkStatus();
}

// The best of the shards' best; shards come in the order of ids.
const ShardSummary& BestShard(absl::Span<const ShardRow> shards) {
  const ShardSummary* best = shards[0].summary;
  for (const ShardRow& shard : shards) {
    if (shard.summary->best_noisy > best->best_noisy) best = shard.summary;
  }
  return *best;
}

// Largest adjusted logit, and the sum of exp(logit - max) over all tokens.
struct Softmax {
  double max;
  double sum;
};

Softmax AdjustedSoftmax(absl::Span<const ShardRow> shards) {
  Softmax all = {-kInf, 0};
  for (const ShardRow& shard : shards) {
    all.max = std::max<double>(all.max, shard.summary->max);
  }
  for (const ShardRow& shard : shards) {
    if (shard.summary->sum == 0) continue;
    all.sum += shard.summary->sum * std::exp(shard.summary->max - all.max);
  }
  return all;
}

double RawLogSumExp(absl::Span<const ShardRow> shards) {
  double max = -kInf;
  double sum = 0;
  for (const ShardRow& shard : shards) {
    max = std::max<double>(max, shard.summary->raw_max);
  }
  for (const ShardRow& shard : shards) {
    if (shard.summary->raw_sum == 0) continue;
    sum += shard.summary->raw_sum * std::exp(shard.summary->raw_max - max);
  }
  return max + std::log(sum);
}

// How the walk over the candidates ended.
enum class Collected { kAll, kFoundBest, kUnknown };

// Collects tokens from the best down until a filter stops it. When a token is
// known to stay whatever follows, and is `best_id`, there is no need to go on.
Collected CollectKept(absl::Span<const ShardRow> shards,
                      const SlotSampling& sampling, TokenId best_id,
                      std::vector<Candidate>* kept) {
  const Softmax all = AdjustedSoftmax(shards);
  const double least_logit =
      sampling.min_p > 0 ? all.max + std::log(double{sampling.min_p}) : -kInf;
  const bool is_cut_first = sampling.top_k > 0 || sampling.min_p > 0;
  const bool has_top_p = sampling.top_p < 1;
  const size_t most =
      sampling.top_k > 0 ? sampling.top_k : std::numeric_limits<size_t>::max();
  const double target = is_cut_first ? kInf : sampling.top_p * all.sum;
  CandidateWalk walk(shards);
  double mass = 0;
  kept->clear();
  while (kept->size() < most && (kept->empty() || mass < target)) {
    const Candidate* next = walk.Next();
    if (next == nullptr) {
      if (walk.is_exhausted()) break;
      return Collected::kUnknown;
    }
    if (!kept->empty() && next->logit < least_logit) break;
    kept->push_back(*next);
    if (has_top_p) mass += std::exp(next->logit - all.max);
    if (next->token_id == best_id && !(has_top_p && is_cut_first)) {
      return Collected::kFoundBest;
    }
  }
  if (has_top_p && is_cut_first) {
    double before = 0;
    size_t num_kept = 0;
    while (num_kept < kept->size() &&
           (num_kept == 0 || before < sampling.top_p * mass)) {
      before += std::exp((*kept)[num_kept++].logit - all.max);
    }
    kept->resize(num_kept);
  }
  return Collected::kAll;
}

}  // namespace

CandidateWalk::CandidateWalk(absl::Span<const ShardRow> shards)
    : shards_(shards), heads_(shards.size(), 0) {}

const Candidate* CandidateWalk::Next() {
  const Candidate* best = nullptr;
  size_t best_shard = 0;
  for (size_t i = 0; i < shards_.size(); ++i) {
    const ShardRow& shard = shards_[i];
    if (heads_[i] == shard.num_candidates) {
      if (shard.num_candidates < shard.num_ids) return nullptr;
      continue;
    }
    const Candidate& head = shard.candidates[heads_[i]];
    if (head.token_id < 0) continue;  // the shard has no more
    if (best == nullptr || head.logit > best->logit) {
      best = &head;
      best_shard = i;
    }
  }
  if (best == nullptr) {
    is_exhausted_ = true;
  } else {
    ++heads_[best_shard];
  }
  return best;
}

bool NeedsCandidates(const SlotSampling& sampling) {
  if (sampling.temperature < kGreedyTemperature) return false;
  return sampling.top_k > 0 || sampling.top_p < 1 || sampling.min_p > 0;
}

absl::StatusOr<std::optional<ChosenToken>> ChooseToken(
    absl::Span<const ShardRow> shards, const SlotSampling& sampling,
    int64_t position, std::vector<Candidate>* kept) {
  if (const absl::Status sane = CheckSane(shards); !sane.ok()) return sane;
  const ShardSummary& best = BestShard(shards);
  if (best.best_token_id < 0) {
    return absl::InternalError("no token may be chosen");
  }
  const ChosenToken best_token = {best.best_token_id, best.best_raw_logit};
  if (!NeedsCandidates(sampling)) return best_token;
  switch (CollectKept(shards, sampling, best_token.token_id, kept)) {
    case Collected::kUnknown:
      return std::nullopt;
    case Collected::kFoundBest:
      return best_token;
    case Collected::kAll:
      break;
  }
  double best_noisy = -kInf;
  ChosenToken chosen;
  for (const Candidate& candidate : *kept) {
    // The best of all tokens is the best of those kept, if it is one.
    if (candidate.token_id == best_token.token_id) return best_token;
    const double noisy =
        candidate.logit + Noise(sampling.seed, position, candidate.token_id);
    if (noisy > best_noisy) {
      best_noisy = noisy;
      chosen = {candidate.token_id, candidate.raw_logit};
    }
  }
  return chosen;
}

bool FillLogprobs(absl::Span<const ShardRow> shards, const ChosenToken& chosen,
                  float divisor, int32_t num_top, SampledLogprobs* out) {
  const float chosen_logit = chosen.raw_logit / divisor;
  const double log_sum = RawLogSumExp(shards);
  std::vector<Candidate> top;
  CandidateWalk walk(shards);
  int32_t num_likelier = 0;
  // Dividing keeps the order but may make equals of neighbours, so go on to
  // the end of a tie and sort by the raw value.
  while (true) {
    const Candidate* next = walk.Next();
    if (next == nullptr) {
      if (walk.is_exhausted()) break;
      return false;
    }
    const bool fills_top = static_cast<int32_t>(top.size()) < num_top ||
                           (num_top > 0 && next->logit == top.back().logit);
    if (!fills_top && next->logit < chosen_logit) break;
    if (next->raw_logit > chosen.raw_logit) ++num_likelier;
    if (fills_top) top.push_back(*next);
  }
  std::sort(top.begin(), top.end(), [](const Candidate& a, const Candidate& b) {
    return a.raw_logit > b.raw_logit ||
           (a.raw_logit == b.raw_logit && a.token_id < b.token_id);
  });
  top.resize(std::min<size_t>(top.size(), num_top));
  out->logprob = static_cast<float>(chosen.raw_logit - log_sum);
  out->rank = num_likelier + 1;
  out->top.clear();
  for (const Candidate& candidate : top) {
    out->top.push_back({candidate.token_id,
                        static_cast<float>(candidate.raw_logit - log_sum)});
  }
  return true;
}

SampledLogprobs LogprobsOf(absl::Span<const ShardRow> shards, float raw_logit,
                           int32_t num_top) {
  const double log_sum = RawLogSumExp(shards);
  SampledLogprobs result;
  result.logprob = static_cast<float>(raw_logit - log_sum);
  CandidateWalk walk(shards);
  while (static_cast<int32_t>(result.top.size()) < num_top) {
    const Candidate* next = walk.Next();
    if (next == nullptr) break;
    result.top.push_back(
        {next->token_id, static_cast<float>(next->raw_logit - log_sum)});
  }
  return result;
}

const char* ExplainChoice(int32_t error) {
  switch (error) {
    case kLogitsNotFinite:
      return "the logits hold NaN or infinity";
    case kLogitsOverflow:
      return "the logits overflow at this temperature";
    default:
      return "no token may be chosen";
  }
}

}  // namespace quire
