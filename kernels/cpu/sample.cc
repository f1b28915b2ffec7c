// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/sample.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/philox.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sample.cc"
#include "hwy/foreach_target.h"
// Highway: after foreach_target.h
#include "kernels/cpu/vec-inl.h"

#ifndef KERNELS_CPU_SAMPLE_ONCE_
#define KERNELS_CPU_SAMPLE_ONCE_
namespace quire {

// Below this a temperature means greedy, as in vLLM.
inline constexpr float kGreedyTemperature = 1e-5f;

// A row at work: where its adjusted logits and its candidates are gathered.
struct SampleRowScratch {
  float* logits;          // [num_vocab]
  Candidate* candidates;  // [max_candidates]
  int64_t max_candidates;
};

inline bool IsBetter(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token_id < b.token_id);
}

}  // namespace quire
#endif  // KERNELS_CPU_SAMPLE_ONCE_

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {

using UintTag = hn::RebindToUnsigned<FloatTag>;
using UintVec = hn::Vec<UintTag>;
using IntTag = hn::RebindToSigned<FloatTag>;
using IntVec = hn::Vec<IntTag>;

constexpr float kNegInf = -std::numeric_limits<float>::infinity();

// Ids handled at a time: their noise stays in the first-level cache.
constexpr int64_t kChunk = 1024;

// The two halves of x * multiplier.
HWY_INLINE void Multiply(UintTag d, UintVec x, UintVec multiplier,
                         UintVec* high, UintVec* low) {
#if HWY_TARGET == HWY_SCALAR
  const uint64_t product = uint64_t{hn::GetLane(x)} * hn::GetLane(multiplier);
  *high = hn::Set(d, static_cast<uint32_t>(product >> 32));
  *low = hn::Set(d, static_cast<uint32_t>(product));
#else
  const hn::Repartition<uint64_t, UintTag> d64;
  const auto even = hn::MulEven(x, multiplier);
  const auto odd = hn::MulEven(
      hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(d64, x))), multiplier);
  *high = hn::OddEven(hn::BitCast(d, odd),
                      hn::BitCast(d, hn::ShiftRight<32>(even)));
  *low =
      hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
#endif
}

// Words of the token ids [4 * first_group, ...), a whole number of vectors
// that covers `num_groups`.
void RandomWords(const SampleRow& row, uint32_t first_group, int64_t num_groups,
                 uint32_t* out) {
  const UintTag d;
  const int64_t lanes = hn::Lanes(d);
  const UintVec multiplier0 = hn::Set(d, kPhiloxMultiplier0);
  const UintVec multiplier1 = hn::Set(d, kPhiloxMultiplier1);
  for (int64_t group = 0; group < num_groups; group += lanes) {
    UintVec c0 = hn::Iota(d, first_group + static_cast<uint32_t>(group));
    UintVec c1 = hn::Set(d, static_cast<uint32_t>(row.position));
    UintVec c2 = hn::Zero(d), c3 = hn::Zero(d);
    uint32_t key0 = static_cast<uint32_t>(row.seed);
    uint32_t key1 = static_cast<uint32_t>(row.seed >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round) {
      UintVec high0, low0, high1, low1;
      Multiply(d, c0, multiplier0, &high0, &low0);
      Multiply(d, c2, multiplier1, &high1, &low1);
      c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, key0));
      c1 = low1;
      c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, key1));
      c3 = low0;
      key0 += kPhiloxWeyl0;
      key1 += kPhiloxWeyl1;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, d, out + 4 * group);
  }
}

// -log(-log1p(-u)) with u = (upper 31 bits + 1/2) / 2^31 in (0, 1): a standard
// Gumbel. Small u, which make large noise, keep their full relative precision.
HWY_INLINE FloatVec GumbelOf(FloatTag d, UintVec word) {
  const IntTag di;
  const FloatVec bits =
      hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<1>(word)));
  const FloatVec u =
      hn::Min(hn::MulAdd(bits, hn::Set(d, 0x1p-31f), hn::Set(d, 0x1p-32f)),
              hn::Set(d, 1.0f - 0x1p-24f));
  const FloatVec exponential = hn::Neg(hn::Log1p(d, hn::Neg(u)));
  return hn::Neg(hn::Log(d, exponential));
}

// The best column so far, lane by lane; a lane keeps the lowest id of a tie.
struct LaneBest {
  FloatVec value;
  IntVec id;
};

HWY_INLINE void Update(FloatTag d, FloatVec value, IntVec id, LaneBest* best) {
  const IntTag di;
  const auto is_better = hn::Gt(value, best->value);
  best->value = hn::IfThenElse(is_better, value, best->value);
  best->id = hn::IfThenElse(hn::RebindMask(di, is_better), id, best->id);
  (void)d;
}

// Largest raw logit, or NaN if any is NaN or +infinity.
float RawMax(const float* logits, int64_t num_vocab) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const FloatVec neg_inf = hn::Set(d, kNegInf);
  FloatVec max = neg_inf;
  auto is_nan = hn::IsNaN(max);
  for (int64_t i = 0; i < num_vocab; i += lanes) {
    FloatVec v = LoadUpTo(d, logits + i, num_vocab - i);
    if (num_vocab - i < lanes) {
      v = hn::IfThenElse(hn::FirstN(d, num_vocab - i), v, neg_inf);
    }
    is_nan = hn::Or(is_nan, hn::IsNaN(v));
    max = hn::Max(max, v);
  }
  const float result = hn::GetLane(hn::MaxOfLanes(d, max));
  if (!hn::AllFalse(d, is_nan) || result == -kNegInf) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  return result;
}

float BiasOf(const SampleRow& row, int32_t token_id) {
  const TokenBias* end = row.biases + row.num_biases;
  const TokenBias* bias = std::lower_bound(
      row.biases, end, token_id,
      [](const TokenBias& b, int32_t id) { return b.token_id < id; });
  return bias < end && bias->token_id == token_id ? bias->bias : 0;
}

// -infinity wherever the bits say no, a word at a time.
void ForbidColumns(const SampleRow& row, int32_t first_id, int64_t num_vocab,
                   float* out) {
  const int64_t end_id = first_id + num_vocab;
  for (int64_t word_idx = first_id / 32; word_idx * 32 < end_id; ++word_idx) {
    const uint32_t word =
        word_idx < row.num_allowed_words ? row.allowed[word_idx] : 0;
    if (word == ~uint32_t{0}) continue;
    const int64_t first = std::max<int64_t>(word_idx * 32, first_id);
    const int64_t last = std::min<int64_t>(word_idx * 32 + 32, end_id);
    for (int64_t id = first; id < last; ++id) {
      if ((word >> (id % 32) & 1) == 0) out[id - first_id] = kNegInf;
    }
  }
}

// Writes raw / temperature (greedy: raw) and then redoes, from the raw value,
// the few columns that biases, penalties and masks change.
void AdjustRow(const float* raw, const SampleRow& row, int32_t first_id,
               int64_t num_vocab, float* out) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const float divisor =
      row.temperature < kGreedyTemperature ? 1.0f : row.temperature;
  const FloatVec divisor_vec = hn::Set(d, divisor);
  for (int64_t i = 0; i < num_vocab; i += lanes) {
    const int64_t n = num_vocab - i;
    StoreUpTo(hn::Div(LoadUpTo(d, raw + i, n), divisor_vec), d, out + i, n);
  }
  for (int32_t i = 0; i < row.num_biases; ++i) {
    const int64_t column = int64_t{row.biases[i].token_id} - first_id;
    if (column < 0 || column >= num_vocab) continue;
    out[column] = (raw[column] + row.biases[i].bias) / divisor;
  }
  for (int32_t i = 0; i < row.num_seen; ++i) {
    const int64_t column = int64_t{row.seen[i].token_id} - first_id;
    if (column < 0 || column >= num_vocab) continue;
    float logit = raw[column];
    if (row.num_biases > 0) logit += BiasOf(row, row.seen[i].token_id);
    logit = logit > 0 ? logit / row.repetition_penalty
                      : logit * row.repetition_penalty;
    logit -= row.frequency_penalty * row.seen[i].output_count;
    if (row.seen[i].output_count > 0) logit -= row.presence_penalty;
    out[column] = logit / divisor;
  }
  for (int32_t i = 0; i < row.num_masked; ++i) {
    const int64_t column = int64_t{row.masked[i]} - first_id;
    if (column >= 0 && column < num_vocab) out[column] = kNegInf;
  }
  if (row.allowed != nullptr) ForbidColumns(row, first_id, num_vocab, out);
}

int32_t CountAbove(const float* x, int64_t n, float bar) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const FloatVec bar_vec = hn::Set(d, bar);
  int64_t count = 0;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    count += hn::CountTrue(d, hn::Gt(hn::LoadU(d, x + i), bar_vec));
  }
  for (; i < n; ++i) count += x[i] > bar ? 1 : 0;
  return static_cast<int32_t>(count);
}

float Max(const float* x, int64_t n) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  FloatVec max = hn::Set(d, kNegInf);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) max = hn::Max(max, hn::LoadU(d, x + i));
  float result = hn::GetLane(hn::MaxOfLanes(d, max));
  for (; i < n; ++i) result = std::max(result, x[i]);
  return result;
}

// Sum of exp(x - max), chunks added in double.
float SumOfExps(const float* x, int64_t n, float max) {
  if (max == kNegInf) return 0;
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const FloatVec max_vec = hn::Set(d, max);
  double total = 0;
  for (int64_t chunk = 0; chunk < n; chunk += kChunk) {
    const int64_t end = std::min(n, chunk + kChunk);
    FloatVec sum = hn::Zero(d);
    for (int64_t i = chunk; i < end; i += lanes) {
      const FloatVec v = LoadUpTo(d, x + i, end - i);
      FloatVec e = ExpClamped(d, hn::Sub(v, max_vec));
      if (end - i < lanes) e = hn::IfThenElseZero(hn::FirstN(d, end - i), e);
      sum = hn::Add(sum, e);
    }
    total += hn::GetLane(hn::SumOfLanes(d, sum));
  }
  return static_cast<float>(total);
}

// Argmax of logit + noise into the summary.
void FindBest(const float* logits, const SampleRow& row, int32_t first_id,
              int64_t num_vocab, ShardSummary* summary) {
  const FloatTag d;
  const IntTag di;
  const UintTag du;
  const int64_t lanes = hn::Lanes(d);
  const bool is_greedy = row.temperature < kGreedyTemperature;
  // Three ids before the first share its group; a vector's worth after.
  HWY_ALIGN uint32_t words[kChunk + 4 + 4 * HWY_MAX_BYTES / sizeof(float)];
  LaneBest best = {hn::Set(d, kNegInf), hn::Set(di, -1)};
  for (int64_t chunk = 0; chunk < num_vocab; chunk += kChunk) {
    const int64_t end = std::min(num_vocab, chunk + kChunk);
    const int64_t chunk_id = first_id + chunk;
    const uint32_t* chunk_words = words + chunk_id % 4;
    if (!is_greedy) {
      const int64_t num_ids = chunk_id % 4 + (end - chunk);
      RandomWords(row, static_cast<uint32_t>(chunk_id / 4), (num_ids + 3) / 4,
                  words);
    }
    for (int64_t i = chunk; i < end; i += lanes) {
      FloatVec v = LoadUpTo(d, logits + i, end - i);
      if (!is_greedy) {
        v = hn::Add(v, GumbelOf(d, hn::LoadU(du, chunk_words + (i - chunk))));
      }
      if (end - i < lanes) {
        v = hn::IfThenElse(hn::FirstN(d, end - i), v, hn::Set(d, kNegInf));
      }
      Update(d, v, hn::Iota(di, static_cast<int32_t>(first_id + i)), &best);
    }
  }
  HWY_ALIGN float values[HWY_MAX_BYTES / sizeof(float)];
  HWY_ALIGN int32_t ids[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(best.value, d, values);
  hn::Store(best.id, di, ids);
  int64_t winner = 0;
  for (int64_t lane = 1; lane < lanes; ++lane) {
    if (values[lane] > values[winner] ||
        (values[lane] == values[winner] && ids[lane] < ids[winner])) {
      winner = lane;
    }
  }
  summary->best_noisy = values[winner];
  summary->best_token_id = ids[winner];
}

// Gathers every column above a rising bar; whenever the scratch is full, keeps
// the best num_candidates and raises the bar to the worst of them. Columns come
// in the order of ids, so one that only equals the bar has lost its tie.
int64_t GatherCandidates(const float* raw, int32_t first_id, int64_t num_vocab,
                         int64_t num_candidates,
                         const SampleRowScratch& scratch) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  float bar = kNegInf;
  int64_t count = 0;
  for (int64_t i = 0; i < num_vocab; i += lanes) {
    const int64_t n = std::min(lanes, num_vocab - i);
    const FloatVec v = LoadUpTo(d, scratch.logits + i, n);
    if (hn::AllFalse(d, hn::Gt(v, hn::Set(d, bar)))) continue;
    if (count + n > scratch.max_candidates) {
      std::nth_element(scratch.candidates,
                       scratch.candidates + num_candidates - 1,
                       scratch.candidates + count, IsBetter);
      count = num_candidates;
      bar = scratch.candidates[num_candidates - 1].logit;
    }
    for (int64_t column = i; column < i + n; ++column) {
      const float logit = scratch.logits[column];
      if (!(logit > bar)) continue;
      scratch.candidates[count++] = {logit, raw[column],
                                     static_cast<int32_t>(first_id + column)};
    }
  }
  return count;
}

void TopCandidates(const float* raw, int32_t first_id, int64_t num_vocab,
                   int64_t num_candidates, const SampleRowScratch& scratch,
                   Candidate* out) {
  const int64_t count =
      GatherCandidates(raw, first_id, num_vocab, num_candidates, scratch);
  const int64_t kept = std::min(count, num_candidates);
  std::partial_sort_copy(scratch.candidates, scratch.candidates + count, out,
                         out + kept, IsBetter);
  std::fill(out + kept, out + num_candidates, Candidate{kNegInf, kNegInf, -1});
}

void SampleOneRow(const SampleShardParams& params, int64_t row_idx,
                  const SampleRowScratch& scratch) {
  const int64_t num_vocab = params.num_vocab;
  const float* raw = params.logits + row_idx * num_vocab;
  const SampleRow& row = params.rows[row_idx];
  ShardSummary& summary = params.summaries[row_idx];
  Candidate* candidates =
      params.candidates + row_idx * int64_t{params.num_candidates};
  summary.raw_max = RawMax(raw, num_vocab);
  if (std::isnan(summary.raw_max)) {
    const float nan = summary.raw_max;
    summary = {nan, nan, nan, nan, nan, -1, nan, kNegInf, 0};
    std::fill(candidates, candidates + params.num_candidates,
              Candidate{kNegInf, kNegInf, -1});
    return;
  }
  AdjustRow(raw, row, params.first_id, num_vocab, scratch.logits);
  summary.raw_sum = SumOfExps(raw, num_vocab, summary.raw_max);
  summary.max = Max(scratch.logits, num_vocab);
  summary.sum = SumOfExps(scratch.logits, num_vocab, summary.max);
  FindBest(scratch.logits, row, params.first_id, num_vocab, &summary);
  summary.best_raw_logit = summary.best_token_id < 0
                               ? kNegInf
                               : raw[summary.best_token_id - params.first_id];
  summary.scored_logit = kNegInf;
  summary.num_above = 0;
  if (row.is_scored != 0) {
    const int64_t column = int64_t{row.scored_id} - params.first_id;
    if (column >= 0 && column < num_vocab) summary.scored_logit = raw[column];
    summary.num_above = CountAbove(raw, num_vocab, row.count_above);
  }
  if (params.num_candidates > 0 && row.skips_candidates == 0) {
    TopCandidates(raw, params.first_id, num_vocab, params.num_candidates,
                  scratch, candidates);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire {

HWY_EXPORT(SampleOneRow);

void SampleShardCpu(const SampleShardParams& params, const ThreadTeam& team,
                    ThreadScratch* scratch) {
  // With room for twice the wanted ones, selecting runs once per num_candidates
  // gathered: a constant cost for each. A vector more fits before it must.
  const int64_t max_candidates =
      std::min<int64_t>(params.num_vocab, 2 * int64_t{params.num_candidates}) +
      HWY_MAX_BYTES;
  const int64_t logits_bytes = (params.num_vocab * sizeof(float) + 63) & ~63ll;
  const int64_t bytes = logits_bytes + max_candidates * sizeof(Candidate);
  team.For(params.num_rows, /*grain=*/1,
           [&](int thread, int64_t begin, int64_t end) {
             char* piece = scratch->Get<char>(thread, bytes);
             const SampleRowScratch row_scratch = {
                 reinterpret_cast<float*>(piece),
                 reinterpret_cast<Candidate*>(piece + logits_bytes),
                 max_candidates};
             for (int64_t row_idx = begin; row_idx < end; ++row_idx) {
               HWY_DYNAMIC_DISPATCH(SampleOneRow)(params, row_idx, row_scratch);
             }
           });
}

}  // namespace quire
#endif  // HWY_ONCE
