// SPDX-License-Identifier: Apache-2.0
//
// What requests experienced, as Prometheus counts it. Buckets are vLLM's, so
// that dashboards of both overlay.
#ifndef COMMON_METRICS_REQUEST_METRICS_H_
#define COMMON_METRICS_REQUEST_METRICS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace prometheus {
class Counter;
class Histogram;
class Registry;
template <typename T>
class Family;
}  // namespace prometheus

namespace quire {

// Thread-safe.
class RequestMetrics {
 public:
  // How one request went, said once at its end.
  struct Outcome {
    std::string code;           // of its status: "OK", "CANCELLED", ...
    std::string finish_reason;  // "stop", "length", "cancelled", "error"
    absl::Duration duration;    // arrival to end
    // First to last token; negative with less than two tokens.
    absl::Duration decode = -absl::Seconds(1);
    int64_t num_prompt_tokens = 0;
    int64_t num_output_tokens = 0;   // of all its sequences
    int64_t num_longest_tokens = 0;  // of its longest sequence
  };

  // `registry` must outlive this.
  RequestMetrics(const std::string& model_name, prometheus::Registry* registry);

  void ObserveFirstToken(absl::Duration since_arrival);
  // `num_tokens` tokens of a sequence arrived together, `gap` after those
  // before them.
  void ObserveTokens(absl::Duration gap, int64_t num_tokens);
  void ObserveOutcome(const Outcome& outcome);

 private:
  std::string model_name_;
  prometheus::Family<prometheus::Counter>* requests_;
  prometheus::Histogram* time_to_first_token_;
  prometheus::Histogram* inter_token_latency_;
  prometheus::Histogram* time_per_output_token_;
  prometheus::Histogram* duration_;
  prometheus::Histogram* decode_;
  prometheus::Histogram* prompt_tokens_;
  prometheus::Histogram* generation_tokens_;
};

}  // namespace quire

#endif  // COMMON_METRICS_REQUEST_METRICS_H_
