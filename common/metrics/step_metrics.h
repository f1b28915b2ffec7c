// SPDX-License-Identifier: Apache-2.0
//
// What iterations cost, as Prometheus counts it.
#ifndef COMMON_METRICS_STEP_METRICS_H_
#define COMMON_METRICS_STEP_METRICS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace prometheus {
class Counter;
class Histogram;
class Registry;
}  // namespace prometheus

namespace quire {

// Thread-safe.
class StepMetrics {
 public:
  // Of worker group `group`. `registry` must outlive this.
  StepMetrics(const std::string& model_name, int32_t group,
              prometheus::Registry* registry);

  // A step that every rank has finished. `duration` is the slowest rank's.
  void ObserveStep(absl::Duration duration, int64_t num_tokens);
  void CountGroupLost();

 private:
  prometheus::Histogram* step_seconds_;
  prometheus::Histogram* step_tokens_;
  prometheus::Counter* groups_lost_;
};

}  // namespace quire

#endif  // COMMON_METRICS_STEP_METRICS_H_
