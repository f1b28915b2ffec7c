// SPDX-License-Identifier: Apache-2.0
//
// The engines' numbers as Prometheus scrapes them: read when asked, so an idle
// engine costs nothing. Gauges and counters are by `group`; times that requests
// take are of all groups together.
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
  struct Source {
    const EngineClient* engine = nullptr;  // borrowed
    // Yields counters, and samples since its last call; nobody else may take
    // them.
    std::function<EngineMetrics()> take_metrics;
  };

  // `sources`: by group.
  EngineCollector(const std::string& model_name, std::vector<Source> sources);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  void AddGauges(std::vector<prometheus::MetricFamily>* families) const;
  void AddCounters(const std::vector<EngineMetrics>& groups,
                   std::vector<prometheus::MetricFamily>* families) const;
  void AddWaits(const std::vector<EngineMetrics>& groups,
                std::vector<prometheus::MetricFamily>* families) const;
  void AddHistograms(const std::vector<EngineMetrics>& groups,
                     std::vector<prometheus::MetricFamily>* families) const;

  const std::string model_name_;
  const std::vector<Source> sources_;  // by group
  // Grow with each scrape, which is const.
  mutable prometheus::Histogram queue_seconds_;
  mutable prometheus::Histogram prefill_seconds_;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_ENGINE_COLLECTOR_H_
