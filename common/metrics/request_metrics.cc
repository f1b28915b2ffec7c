// SPDX-License-Identifier: Apache-2.0
#include "common/metrics/request_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <vector>

#include "common/metrics/buckets.h"

namespace quire {
namespace {

prometheus::Histogram* AddHistogram(const char* name, const char* help,
                                    const std::string& model_name,
                                    const std::vector<double>& buckets,
                                    prometheus::Registry* registry) {
  return &prometheus::BuildHistogram()
              .Name(name)
              .Help(help)
              .Labels({{"model_name", model_name}})
              .Register(*registry)
              .Add({}, buckets);
}

}  // namespace

RequestMetrics::RequestMetrics(const std::string& model_name,
                               prometheus::Registry* registry)
    : model_name_(model_name),
      requests_(&prometheus::BuildCounter()
                     .Name("quire_requests_total")
                     .Help("Requests that ended, by status and reason.")
                     .Register(*registry)),
      time_to_first_token_(AddHistogram("quire_time_to_first_token_seconds",
                                        "Arrival to the first output token.",
                                        model_name, FirstTokenBuckets(),
                                        registry)),
      inter_token_latency_(
          AddHistogram("quire_inter_token_latency_seconds",
                       "Gap between consecutive tokens of a sequence.",
                       model_name, InterTokenBuckets(), registry)),
      time_per_output_token_(AddHistogram(
          "quire_request_time_per_output_token_seconds",
          "Per request, mean gap between the tokens of its longest sequence.",
          model_name, InterTokenBuckets(), registry)),
      duration_(AddHistogram("quire_request_duration_seconds",
                             "Arrival to the end of a request.", model_name,
                             RequestBuckets(), registry)),
      decode_(AddHistogram("quire_decode_seconds",
                           "First to last output token of a request.",
                           model_name, RequestBuckets(), registry)),
      prompt_tokens_(AddHistogram("quire_request_prompt_tokens",
                                  "Prompt tokens of a request.", model_name,
                                  TokenCountBuckets(), registry)),
      generation_tokens_(AddHistogram("quire_request_generation_tokens",
                                      "Output tokens of a request.", model_name,
                                      TokenCountBuckets(), registry)) {}

void RequestMetrics::ObserveFirstToken(absl::Duration since_arrival) {
  time_to_first_token_->Observe(absl::ToDoubleSeconds(since_arrival));
}

void RequestMetrics::ObserveTokens(absl::Duration gap, int64_t num_tokens) {
  // Tokens that arrive together share the gap: the sum stays what was waited.
  const double each =
      absl::ToDoubleSeconds(gap) / std::max<int64_t>(num_tokens, 1);
  for (int64_t i = 0; i < num_tokens; ++i) inter_token_latency_->Observe(each);
}

void RequestMetrics::ObserveOutcome(const Outcome& outcome) {
  requests_
      ->Add({{"model_name", model_name_},
             {"code", outcome.code},
             {"finish_reason", outcome.finish_reason}})
      .Increment();
  duration_->Observe(absl::ToDoubleSeconds(outcome.duration));
  prompt_tokens_->Observe(outcome.num_prompt_tokens);
  generation_tokens_->Observe(outcome.num_output_tokens);
  if (outcome.decode < absl::ZeroDuration()) return;
  const double decode_s = absl::ToDoubleSeconds(outcome.decode);
  decode_->Observe(decode_s);
  if (outcome.num_longest_tokens > 1) {
    time_per_output_token_->Observe(decode_s /
                                    (outcome.num_longest_tokens - 1));
  }
}

}  // namespace quire
