// SPDX-License-Identifier: Apache-2.0
//
// Read back as the text that Prometheus scrapes.
#include "common/metrics/step_metrics.h"

#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

TEST(StepMetricsTest, ObservesDurationAndTokens) {
  prometheus::Registry registry;
  StepMetrics metrics("tiny", /*group=*/3, &registry);
  StepMetrics others("tiny", /*group=*/4, &registry);
  metrics.ObserveStep(absl::Milliseconds(3), /*num_tokens=*/100);
  metrics.CountGroupLost();
  const std::string text =
      prometheus::TextSerializer().Serialize(registry.Collect());
  EXPECT_THAT(text, HasSubstr("quire_step_seconds_bucket{model_name=\"tiny\","
                              "group=\"3\",le=\"0.005\"} 1"));
  EXPECT_THAT(text, HasSubstr("quire_step_seconds_bucket{model_name=\"tiny\","
                              "group=\"3\",le=\"0.002\"} 0"));
  EXPECT_THAT(text, HasSubstr("quire_step_tokens_sum{model_name=\"tiny\","
                              "group=\"3\"} 100"));
  EXPECT_THAT(text, HasSubstr("quire_groups_lost_total{model_name=\"tiny\","
                              "group=\"3\"} 1"));
  EXPECT_THAT(text, HasSubstr("quire_groups_lost_total{model_name=\"tiny\","
                              "group=\"4\"} 0"));
}

}  // namespace
}  // namespace quire
