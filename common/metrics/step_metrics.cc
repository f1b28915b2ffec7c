// SPDX-License-Identifier: Apache-2.0
#include "common/metrics/step_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "common/metrics/buckets.h"

namespace quire {

StepMetrics::StepMetrics(const std::string& model_name, int32_t group,
                         prometheus::Registry* registry)
    : step_seconds_(
          &prometheus::BuildHistogram()
               .Name("quire_step_seconds")
               .Help("Time of a step on the slowest rank.")
               .Labels({{"model_name", model_name}})
               .Register(*registry)
               .Add({{"group", std::to_string(group)}}, StepBuckets())),
      step_tokens_(
          &prometheus::BuildHistogram()
               .Name("quire_step_tokens")
               .Help("Tokens that a step computed.")
               .Labels({{"model_name", model_name}})
               .Register(*registry)
               .Add({{"group", std::to_string(group)}}, StepTokenBuckets())),
      groups_lost_(&prometheus::BuildCounter()
                        .Name("quire_groups_lost_total")
                        .Help("Group epochs that ended by a failure.")
                        .Labels({{"model_name", model_name}})
                        .Register(*registry)
                        .Add({{"group", std::to_string(group)}})) {}

void StepMetrics::ObserveStep(absl::Duration duration, int64_t num_tokens) {
  step_seconds_->Observe(absl::ToDoubleSeconds(duration));
  step_tokens_->Observe(static_cast<double>(num_tokens));
}

void StepMetrics::CountGroupLost() { groups_lost_->Increment(); }

}  // namespace quire
