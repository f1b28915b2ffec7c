// SPDX-License-Identifier: Apache-2.0
//
// The engine's numbers as Prometheus scrapes them: read when asked, so an idle
// engine costs nothing.
#ifndef COORDINATOR_GATEWAY_ENGINE_COLLECTOR_H_
#define COORDINATOR_GATEWAY_ENGINE_COLLECTOR_H_

#include <prometheus/collectable.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>

#include <functional>
#include <string>
#include <vector>

#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_metrics.h"

namespace quire {

// Thread-safe.
class EngineCollector final : public prometheus::Collectable {
 public:
  // `engine` is borrowed. `take_metrics` yields counters, and samples since
  // its last call; nobody else may take them.
  EngineCollector(const std::string& model_name, const EngineClient* engine,
                  std::function<EngineMetrics()> take_metrics);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  void AddGauges(std::vector<prometheus::MetricFamily>* families) const;
  void AddCounters(const EngineCounters& counters,
                   std::vector<prometheus::MetricFamily>* families) const;
  void AddWaits(const EngineMetrics& metrics,
                std::vector<prometheus::MetricFamily>* families) const;
  void AddHistograms(const EngineMetrics& metrics,
                     std::vector<prometheus::MetricFamily>* families) const;

  const std::string model_name_;
  const EngineClient* const engine_;
  const std::function<EngineMetrics()> take_metrics_;
  // Grow with each scrape, which is const.
  mutable prometheus::Histogram queue_seconds_;
  mutable prometheus::Histogram prefill_seconds_;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_ENGINE_COLLECTOR_H_
