// SPDX-License-Identifier: Apache-2.0
#ifndef TOOLS_SPARSE_ATTENTION_LOGIT_DIFFERENCE_H_
#define TOOLS_SPARSE_ATTENTION_LOGIT_DIFFERENCE_H_

#include <cstdint>

#include "absl/types/span.h"

namespace quire {

// How far logits are from those they should be, over rows of a vocabulary each.
class LogitDifference {
 public:
  // REQUIRES: as many of each, at least one.
  void Add(absl::Span<const float> want, absl::Span<const float> got);

  int64_t num_rows() const { return num_rows_; }
  double max() const { return max_; }  // of |want - got|
  double mean() const { return sum_ / num_logits_; }
  // KL(want || got) of the rows' softmaxes, in nats, the mean row's.
  double mean_kl() const { return sum_kl_ / num_rows_; }
  // Share of rows whose largest logit is the same one.
  double top_agreement() const {
    return static_cast<double>(num_same_top_) / num_rows_;
  }

 private:
  int64_t num_rows_ = 0;
  int64_t num_logits_ = 0;
  int64_t num_same_top_ = 0;
  double max_ = 0;
  double sum_ = 0;
  double sum_kl_ = 0;
};

}  // namespace quire

#endif  // TOOLS_SPARSE_ATTENTION_LOGIT_DIFFERENCE_H_
