// SPDX-License-Identifier: Apache-2.0
//
// What shards should say in each stage of a nucleus choice
// (kernels/nucleus_choice.h), and choose in the end, over host memory.
#ifndef TESTS_REFERENCE_NUCLEUS_CHOICE_H_
#define TESTS_REFERENCE_NUCLEUS_CHOICE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/nucleus_choice.h"
#include "tests/reference/shaped_choice.h"

namespace quire::reference {

// One row of one stage.
class NucleusRow {
 public:
  NucleusRow(const NucleusParams& params, int32_t index)
      : p_(params),
        row_(params.rows[index]),
        index_(index),
        logits_(params.logits + int64_t{row_.row} * params.num_vocab),
        state_(params.states[At(params.stage)]) {}

  void Run() {
    if (p_.stage > NucleusStage::kEighths) {
      state_ = p_.states[At(static_cast<NucleusStage>(Stage() - 1))];
    }
    if (p_.stage == NucleusStage::kLargest) return SayLargest();
    if (p_.stage == NucleusStage::kEighths) Begin();
    if (p_.stage == NucleusStage::kToken) return Choose();
    if (state_.error != 0) return;
    if (row_.top_p < 1 && Stage() > 1) Refine(Stage() - 2);
    if (p_.stage == NucleusStage::kDraw) return SayDraw();
    if (row_.top_p < 1) SayBins(Stage() - 1);
  }

 private:
  int32_t Stage() const { return static_cast<int32_t>(p_.stage); }
  int64_t At(NucleusStage stage) const {
    return static_cast<int64_t>(stage) * p_.num_rows + index_;
  }
  template <typename T>
  const T* Heard(int32_t shard, int32_t each = 1) const {
    return static_cast<const T*>(p_.heard) +
           (int64_t{shard} * p_.num_rows + index_) * each;
  }
  template <typename T>
  T* Said(int32_t each = 1) const {
    return static_cast<T*>(p_.said) + int64_t{index_} * each;
  }

  double Least() const {
    return row_.min_p > 0
               ? state_.max / row_.temperature + std::log(double{row_.min_p})
               : -kInfinity;
  }
  // kNowhere: out of the nucleus whatever top_p is.
  static constexpr int64_t kNowhere = std::numeric_limits<int64_t>::max();
  int64_t StepOf(float raw) const {
    const double depth = std::floor((double{state_.max} - raw) /
                                    row_.temperature * kStepsPerNat);
    if (depth >= 1 << kNucleusStepBits || raw / row_.temperature < Least()) {
      return kNowhere;
    }
    return static_cast<int64_t>(depth);
  }
  static int64_t WeightOf(int64_t step) {
    return std::llround(
        0x1p31 * std::exp(-static_cast<double>(step % 65536) / kStepsPerNat));
  }
  int64_t SumOf(int32_t shard, int32_t bin) const {
    const NucleusBin& found = Heard<NucleusBin>(shard, kNucleusBins)[bin];
    return (int64_t{found.high} << 31) + found.low;
  }

  void SayLargest() {
    float largest = -kInfinity;
    for (int32_t i = 0; i < p_.num_vocab; ++i) {
      if (!(logits_[i] < kInfinity)) {
        *Said<float>() = std::nanf("");
        return;
      }
      largest = std::max(largest, logits_[i]);
    }
    *Said<float>() = largest;
  }

  void Begin() {
    state_ = {-kInfinity, 0, 0, 0, 0, 0};
    for (int32_t shard = 0; shard < p_.num_shards; ++shard) {
      const float largest = *Heard<float>(shard);
      if (std::isnan(largest)) state_.error = kLogitsNotFinite;
      state_.max = std::max(state_.max, largest);
    }
    if (state_.error != 0) return;
    if (state_.max == -kInfinity) state_.error = kNoToken;
    if (state_.max / row_.temperature == kInfinity) {
      state_.error = kLogitsOverflow;
    }
  }

  void SayBins(int32_t digit) {
    std::vector<int64_t> sums(kNucleusBins);
    for (int32_t i = 0; i < p_.num_vocab; ++i) {
      const int64_t step = StepOf(logits_[i]);
      const int32_t after = 8 * (2 - digit);
      if (step == kNowhere || step >> (after + 8) != state_.prefix) continue;
      sums[step >> after & 255] += WeightOf(step);
    }
    for (int32_t bin = 0; bin < kNucleusBins; ++bin) {
      Said<NucleusBin>(kNucleusBins)[bin] = {
          static_cast<uint32_t>(sums[bin] & 0x7fffffff),
          static_cast<uint32_t>(sums[bin] >> 31)};
    }
  }

  void Refine(int32_t digit) {
    std::vector<double> weights(kNucleusBins);
    std::vector<int64_t> sums(kNucleusBins);
    double total = 0;
    for (int32_t bin = 0; bin < kNucleusBins; ++bin) {
      for (int32_t shard = 0; shard < p_.num_shards; ++shard) {
        sums[bin] += SumOf(shard, bin);
      }
      const uint32_t eighths =
          digit == 0 ? bin : state_.prefix >> 8 * (digit - 1);
      weights[bin] = static_cast<double>(sums[bin]) * std::exp(eighths / -8.0);
      total += weights[bin];
    }
    if (digit == 0) state_.needed = row_.top_p * total;
    double before = state_.above;
    int32_t end = -1;
    for (int32_t bin = 0; bin < kNucleusBins; ++bin) {
      if (sums[bin] > 0 && (end < 0 || before < state_.needed)) {
        end = bin;
        state_.above = before;
      }
      before += weights[bin];
    }
    state_.prefix = state_.prefix << 8 | end;
    if (digit < 2) return;
    const int64_t each = WeightOf(state_.prefix);
    const double count = static_cast<double>(sums[end] / each);
    const double ties =
        std::ceil((state_.needed - state_.above) / (weights[end] / count));
    state_.num_ties = static_cast<int32_t>(std::clamp(ties, 1.0, count));
  }

  void SayDraw() {
    int64_t ties = state_.num_ties;
    if (row_.top_p < 1) {
      for (int32_t shard = 0; shard < p_.shard; ++shard) {
        ties -= SumOf(shard, state_.prefix % 256) / WeightOf(state_.prefix);
      }
    }
    ListedToken best = {0, -1};
    double best_noisy = -kInfinity;
    for (int32_t i = 0; i < p_.num_vocab; ++i) {
      const float logit = logits_[i] / row_.temperature;
      if (row_.top_p < 1) {
        const int64_t step = StepOf(logits_[i]);
        if (step > state_.prefix) continue;
        if (step == state_.prefix && ties-- <= 0) continue;
      } else if (logit == -kInfinity || logit < Least()) {
        continue;
      }
      const int32_t id = p_.first_id + i;
      const double noisy = logit + Noise(row_.seed, row_.position, id);
      if (noisy <= best_noisy) continue;
      best_noisy = noisy;
      best = {logit, id};
    }
    *Said<ListedToken>() = best;
  }

  void Choose() {
    int32_t token = state_.error;
    double best_noisy = -kInfinity;
    for (int32_t shard = 0; shard < p_.num_shards && state_.error == 0;
         ++shard) {
      const ListedToken& draw = *Heard<ListedToken>(shard);
      if (draw.token_id < 0) continue;
      const double noisy =
          draw.logit + Noise(row_.seed, row_.position, draw.token_id);
      if (noisy <= best_noisy) continue;
      best_noisy = noisy;
      token = draw.token_id;
    }
    p_.tokens[row_.row] = token;
    p_.by_slot[row_.slot] = token;
  }

  const NucleusParams& p_;
  const ShapedRow& row_;
  const int32_t index_;
  const float* const logits_;
  NucleusState& state_;
};

inline void ChooseFromNuclei(const NucleusParams& params) {
  for (int32_t i = 0; i < params.num_rows; ++i) NucleusRow(params, i).Run();
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_NUCLEUS_CHOICE_H_
