// SPDX-License-Identifier: Apache-2.0
//
// What a shaped choice (kernels/shaped_choice.h) should yield, over host
// memory: sorted whole, summed in double precision.
#ifndef TESTS_REFERENCE_SHAPED_CHOICE_H_
#define TESTS_REFERENCE_SHAPED_CHOICE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/listed_choice.h"
#include "kernels/philox.h"
#include "kernels/shaped_choice.h"

namespace quire::reference {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct ChosenToken {
  int32_t token;
  // By how much, of the noisy logits and of the mass that top_p keeps, other
  // sums would have to differ for another token to be chosen.
  double margin = std::numeric_limits<double>::infinity();
};

inline double Noise(uint64_t seed, int64_t position, int32_t token_id) {
  const double u =
      ((TokenRandomWord(seed, position, token_id) >> 1) + 0.5) * 0x1p-31;
  return -std::log(-std::log1p(-u));
}

template <typename Row>
bool IsAllowed(const Row& row, const uint32_t* allowed, int32_t id) {
  if (row.first_allowed < 0) return true;
  return id / 32 < row.num_allowed_words &&
         (allowed[row.first_allowed + id / 32] >> (id % 32) & 1);
}

// By (logit descending, id ascending).
inline void Sort(std::vector<ListedToken>* tokens) {
  std::sort(tokens->begin(), tokens->end(),
            [](const ListedToken& a, const ListedToken& b) {
              return a.logit > b.logit ||
                     (a.logit == b.logit && a.token_id < b.token_id);
            });
}

// How many of the sorted tokens filters keep.
inline size_t CountKept(const ShapedRow& row,
                        const std::vector<ListedToken>& sorted,
                        double* margin) {
  const double max = sorted[0].logit;
  const auto share = [&](size_t i) { return std::exp(sorted[i].logit - max); };
  size_t kept = sorted.size();
  if (row.min_p > 0) {
    const double least = max + std::log(static_cast<double>(row.min_p));
    while (kept > 1 && sorted[kept - 1].logit < least) --kept;
  }
  if (row.top_k > 0) kept = std::min<size_t>(kept, row.top_k);
  if (row.top_p >= 1) return kept;
  double sum = 0;
  for (size_t i = 0; i < kept; ++i) sum += share(i);
  const double target = row.top_p * sum;
  double before = 0;
  size_t num = 0;
  while (num < kept && (num == 0 || before < target)) {
    if (num > 0) *margin = std::min(*margin, (target - before) / sum);
    before += share(num++);
  }
  *margin = std::min(*margin, std::abs(before - target) / sum);
  return num;
}

// Among the sorted tokens.
inline ChosenToken ChooseSorted(const ShapedRow& row,
                                const std::vector<ListedToken>& sorted) {
  if (sorted.empty()) return {kNoToken};
  if (sorted[0].logit == kInfinity) return {kLogitsOverflow};
  if (row.temperature < 1e-5f) return {sorted[0].token_id};
  ChosenToken chosen = {-1};
  const size_t kept = CountKept(row, sorted, &chosen.margin);
  double best = -kInfinity, second = -kInfinity;
  for (size_t i = 0; i < kept; ++i) {
    const double noisy =
        sorted[i].logit + Noise(row.seed, row.position, sorted[i].token_id);
    if (noisy > best) {
      second = best;
      best = noisy;
      chosen.token = sorted[i].token_id;
    } else {
      second = std::max(second, noisy);
    }
  }
  chosen.margin = std::min(chosen.margin, best - second);
  return chosen;
}

// Logits by temperature of what may be chosen, sorted; false: one is NaN or
// +infinity.
inline bool SortRow(const float* raw, int32_t num_vocab, const ShapedRow& row,
                    const uint32_t* allowed, std::vector<ListedToken>* sorted) {
  const float divisor = row.temperature < 1e-5f ? 1 : row.temperature;
  for (int32_t id = 0; id < num_vocab; ++id) {
    if (!(raw[id] < kInfinity)) return false;
    if (!IsAllowed(row, allowed, id)) continue;
    const float logit = raw[id] / divisor;
    if (logit > -kInfinity) sorted->push_back({logit, id});
  }
  Sort(sorted);
  return true;
}

// REQUIRES: the logits have been edited.
inline ChosenToken Choose(const float* raw, int32_t num_vocab,
                          const ShapedRow& row, const uint32_t* allowed) {
  std::vector<ListedToken> sorted;
  if (!SortRow(raw, num_vocab, row, allowed, &sorted)) {
    return {kLogitsNotFinite};
  }
  return ChooseSorted(row, sorted);
}

// Calls f(logit, place) for each logit that the edit may change, with its place
// among what is saved.
template <typename F>
void ForEachEdited(const EditLogitsParams& p, const EditRow& edit, const F& f) {
  if (edit.first_saved < 0) return;
  if (p.has_others != nullptr && edit.first_allowed >= 0) {
    for (int32_t i = 0; i < p.num_vocab; ++i) {
      f(p.logits + int64_t{edit.row} * p.num_vocab + i,
        p.saved + edit.first_saved + i);
    }
    return;
  }
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < edit.num_biases; ++i) {
    ids.push_back(p.biases[edit.first_bias + i].token_id);
  }
  ids.insert(ids.end(), p.masked + edit.first_masked,
             p.masked + edit.first_masked + edit.num_masked);
  if (edit.is_penalised) {
    const SeenToken* seen = p.seen + edit.slot * p.seen_stride;
    const int32_t count = reinterpret_cast<const SeenHeader*>(seen)->count;
    for (int32_t i = 1; i <= count; ++i) ids.push_back(seen[i].token_id);
  }
  float* logits = p.logits + int64_t{edit.row} * p.num_vocab;
  float* saved = p.saved + edit.first_saved;
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t column = int64_t{ids[i]} - p.first_id;
    if (column >= 0 && column < p.num_vocab) f(&logits[column], &saved[i]);
  }
}

inline void Edit(const EditLogitsParams& p, const EditRow& edit) {
  ForEachEdited(p, edit, [](float* x, float* saved) { *saved = *x; });
  float* logits = p.logits + int64_t{edit.row} * p.num_vocab;
  const auto each = [&](int32_t id, auto change) {
    const int64_t column = int64_t{id} - p.first_id;
    if (column >= 0 && column < p.num_vocab && logits[column] < kInfinity) {
      change(&logits[column]);
    }
  };
  for (int32_t i = 0; i < p.num_vocab && p.has_others != nullptr; ++i) {
    const int32_t id = p.first_id + i;
    if (!IsAllowed(edit, p.allowed, id)) {
      each(id, [](float* x) { *x = -kInfinity; });
    }
  }
  for (int32_t i = 0; i < edit.num_biases; ++i) {
    const TokenBias& bias = p.biases[edit.first_bias + i];
    each(bias.token_id, [&](float* x) { *x += bias.bias; });
  }
  if (edit.is_penalised) {
    const SeenToken* seen = p.seen + edit.slot * p.seen_stride;
    const int32_t count = reinterpret_cast<const SeenHeader*>(seen)->count;
    for (int32_t i = 1; i <= count; ++i) {
      each(seen[i].token_id, [&](float* x) {
        *x = *x > 0 ? *x / edit.repetition_penalty
                    : *x * edit.repetition_penalty;
        // Each operation rounds.
        volatile float by = edit.frequency_penalty * seen[i].output_count;
        *x -= by;
        if (seen[i].output_count > 0) *x -= edit.presence_penalty;
      });
    }
  }
}

// Whether a token of the columns that the edit does not mask may be chosen.
inline bool HasOthers(const EditLogitsParams& p, const EditRow& edit) {
  const float* logits = p.logits + int64_t{edit.row} * p.num_vocab;
  const int32_t* masked = p.masked + edit.first_masked;
  const int32_t* end = masked + edit.num_masked;
  for (int32_t i = 0; i < p.num_vocab; ++i) {
    const int32_t id = p.first_id + i;
    if (logits[i] != -kInfinity && IsAllowed(edit, p.allowed, id) &&
        std::find(masked, end, id) == end) {
      return true;
    }
  }
  return false;
}

inline void Mask(const EditLogitsParams& p, const EditRow& edit) {
  float* logits = p.logits + int64_t{edit.row} * p.num_vocab;
  for (int32_t i = 0; i < edit.num_masked; ++i) {
    const int64_t column =
        int64_t{p.masked[edit.first_masked + i]} - p.first_id;
    if (column >= 0 && column < p.num_vocab && logits[column] < kInfinity) {
      logits[column] = -kInfinity;
    }
  }
}

inline void Finish(const EditLogitsParams& p, const EditRow& edit) {
  ForEachEdited(p, edit, [](float* x, float* saved) { *x = *saved; });
  const int32_t token = p.tokens[edit.row];
  if (!edit.is_penalised || token < 0) return;
  SeenToken* seen = p.seen + edit.slot * p.seen_stride;
  int32_t& count = reinterpret_cast<SeenHeader*>(seen)->count;
  for (int32_t i = 1; i <= count; ++i) {
    if (seen[i].token_id == token) {
      ++seen[i].output_count;
      return;
    }
  }
  seen[++count] = {token, 1};
}

inline void EditLogits(const EditLogitsParams& p) {
  for (int32_t i = 0; i < p.num_edits; ++i) {
    const EditRow& edit = p.edits[i];
    Edit(p, edit);
    const bool has_others = edit.num_masked > 0 && HasOthers(p, edit);
    if (p.has_others != nullptr) {
      p.has_others[i] = has_others;
    } else if (has_others) {
      Mask(p, edit);
    }
  }
}

inline void MaskLogits(const MaskLogitsParams& p) {
  for (int32_t i = 0; i < p.num_edits; ++i) {
    bool has_others = false;
    for (int32_t shard = 0; shard < p.num_shards; ++shard) {
      has_others |= p.heard[shard * p.num_edits + i] != 0;
    }
    if (has_others) Mask(p, p.edits[i]);
  }
}

inline void FinishEdits(const EditLogitsParams& p) {
  for (int32_t i = 0; i < p.num_edits; ++i) Finish(p, p.edits[i]);
}

// `logits` are the model's own.
inline TokenLogprobs Logprobs(const float* logits, int32_t num_vocab,
                              int32_t token, int32_t num_top) {
  double max = -kInfinity, sum = 0;
  for (int32_t i = 0; i < num_vocab; ++i)
    max = std::max<double>(max, logits[i]);
  for (int32_t i = 0; i < num_vocab; ++i) sum += std::exp(logits[i] - max);
  const double log_sum = max + std::log(sum);
  TokenLogprobs out;
  out.logprob = static_cast<float>(logits[token] - log_sum);
  out.rank = 1;
  std::vector<int32_t> order;
  for (int32_t i = 0; i < num_vocab; ++i) {
    if (logits[i] > logits[token]) ++out.rank;
    if (logits[i] > -kInfinity) order.push_back(i);
  }
  const size_t count = std::min<size_t>(order.size(), num_top);
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](int32_t a, int32_t b) {
                      return logits[a] > logits[b] ||
                             (logits[a] == logits[b] && a < b);
                    });
  for (size_t i = 0; i < kMaxTopLogprobs; ++i) {
    out.top_ids[i] = i < count ? order[i] : -1;
    out.top_logprobs[i] =
        i < count ? static_cast<float>(logits[order[i]] - log_sum) : -kInfinity;
  }
  return out;
}

// All of it, over host memory. `margins`, if given, are those of p.rows.
inline void ShapedChoice(const ShapedChoiceParams& p,
                         std::vector<double>* margins = nullptr) {
  EditLogits(p);
  for (int32_t i = 0; i < p.num_unfiltered + p.num_filtered; ++i) {
    const ShapedRow& row = p.rows[i];
    const ChosenToken chosen = Choose(p.logits + int64_t{row.row} * p.num_vocab,
                                      p.num_vocab, row, p.allowed);
    p.tokens[row.row] = chosen.token;
    p.by_slot[row.slot] = chosen.token;
    if (margins != nullptr) margins->push_back(chosen.margin);
  }
  FinishEdits(p);
  for (int32_t i = 0; i < p.num_logprobs; ++i) {
    const LogprobRow& wish = p.logprob_rows[i];
    if (p.tokens[wish.row] < 0) continue;
    p.logprobs[i] = Logprobs(p.logits + int64_t{wish.row} * p.num_vocab,
                             p.num_vocab, p.tokens[wish.row], wish.num_top);
  }
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_SHAPED_CHOICE_H_
