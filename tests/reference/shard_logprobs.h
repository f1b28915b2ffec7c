// SPDX-License-Identifier: Apache-2.0
//
// What shards should say of log probabilities (kernels/shard_logprobs.h), and
// what should come of it, over host memory.
#ifndef TESTS_REFERENCE_SHARD_LOGPROBS_H_
#define TESTS_REFERENCE_SHARD_LOGPROBS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/shard_logprobs.h"
#include "tests/reference/shaped_choice.h"

namespace quire::reference {

inline constexpr int32_t kLogprobHeader =
    sizeof(LogprobShard) / sizeof(ListedToken);

// One row of one stage.
class ShardLogprobsRow {
 public:
  ShardLogprobsRow(const ShardLogprobsParams& params, int32_t index)
      : p_(params),
        wish_(params.rows[index]),
        index_(index),
        token_(params.tokens[wish_.row]),
        logits_(params.logits + int64_t{wish_.row} * params.num_vocab) {}

  void Run() const {
    if (p_.stage == LogprobStage::kChosen) {
      SayChosen();
    } else if (token_ >= 0) {
      p_.stage == LogprobStage::kSums ? SaySums() : Write();
    }
  }

 private:
  int64_t row_tokens() const { return kLogprobHeader + p_.max_top; }

  void SayChosen() const {
    const bool is_here =
        token_ >= p_.first_id && token_ < p_.first_id + p_.num_vocab;
    static_cast<float*>(p_.said)[index_] =
        is_here ? logits_[token_ - p_.first_id] : -kInfinity;
  }

  float Chosen() const {
    float chosen = -kInfinity;
    for (int32_t shard = 0; shard < p_.num_shards; ++shard) {
      chosen = std::max(chosen, p_.chosen[shard * p_.num_rows + index_]);
    }
    return chosen;
  }

  void SaySums() const {
    std::vector<ListedToken> sorted;
    for (int32_t i = 0; i < p_.num_vocab; ++i) {
      if (logits_[i] > -kInfinity) {
        sorted.push_back({logits_[i], p_.first_id + i});
      }
    }
    Sort(&sorted);
    const float max = sorted.empty() ? -kInfinity : sorted[0].logit;
    double sum = 0;
    for (const ListedToken& token : sorted) {
      sum += std::exp(double{token.logit} - max);
    }
    const float chosen = Chosen();
    const auto num_above =
        std::count_if(sorted.begin(), sorted.end(),
                      [&](const auto& token) { return token.logit > chosen; });
    auto* const said = static_cast<ListedToken*>(p_.said) +
                       static_cast<int64_t>(index_) * row_tokens();
    const float rounded = static_cast<float>(sum);
    reinterpret_cast<LogprobShard&>(*said) = {max, rounded,
                                              static_cast<float>(sum - rounded),
                                              static_cast<int32_t>(num_above)};
    sorted.resize(wish_.num_top, {0, -1});
    std::copy(sorted.begin(), sorted.end(), said + kLogprobHeader);
  }

  void Write() const {
    float max = -kInfinity;
    std::vector<ListedToken> all;
    std::vector<LogprobShard> shards;
    for (int32_t shard = 0; shard < p_.num_shards; ++shard) {
      const ListedToken* const said =
          p_.sums + (int64_t{shard} * p_.num_rows + index_) * row_tokens();
      shards.push_back(reinterpret_cast<const LogprobShard&>(*said));
      max = std::max(max, shards.back().max);
      for (int32_t i = 0; i < wish_.num_top; ++i) {
        const ListedToken& token = said[kLogprobHeader + i];
        if (token.token_id >= 0) all.push_back(token);
      }
    }
    double sum = 0;
    TokenLogprobs& out = p_.logprobs[index_];
    out.rank = 1;
    for (const LogprobShard& shard : shards) {
      if (shard.sum > 0) {
        sum += (double{shard.sum} + shard.rest) *
               std::exp(double{shard.max} - max);
      }
      out.rank += shard.num_above;
    }
    const double log_sum = max + std::log(sum);
    out.logprob = static_cast<float>(Chosen() - log_sum);
    Sort(&all);
    const size_t count = std::min<size_t>(all.size(), wish_.num_top);
    for (size_t i = 0; i < kMaxTopLogprobs; ++i) {
      out.top_ids[i] = i < count ? all[i].token_id : -1;
      out.top_logprobs[i] =
          i < count ? static_cast<float>(all[i].logit - log_sum) : -kInfinity;
    }
  }

  const ShardLogprobsParams& p_;
  const LogprobRow& wish_;
  const int32_t index_;
  const int32_t token_;
  const float* const logits_;
};

inline void TakeShardLogprobs(const ShardLogprobsParams& params) {
  for (int32_t i = 0; i < params.num_rows; ++i) {
    ShardLogprobsRow(params, i).Run();
  }
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_SHARD_LOGPROBS_H_
