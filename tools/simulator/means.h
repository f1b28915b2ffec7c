// SPDX-License-Identifier: Apache-2.0
//
// Means over a simulated run: of steps, weighted by their duration, and of
// requests.
#ifndef TOOLS_SIMULATOR_MEANS_H_
#define TOOLS_SIMULATOR_MEANS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_metrics.h"
#include "tools/simulator/cost_model.h"
#include "tools/simulator/modelled_workers.h"
#include "tools/simulator/simulation.h"

namespace quire {

// Thread-compatible.
class RunMeans {
 public:
  explicit RunMeans(int32_t block_size) : block_size_(block_size) {}

  // A step of `seconds`: what the engine and the slots hold during it. 0 for one
  // outside the window, which counts among the largest alone.
  void Add(double seconds, const EngineStats& stats, const SlotTotals& totals,
           const StepWork& work);

  // A request that ended well, of that tenant; "": of none.
  void AddRequest(const RequestSample& sample, const std::string& tenant);

  // The means and percentiles of `result`; the rest stays.
  void Fill(SimulationResult* result);

 private:
  const int32_t block_size_;
  double seconds_ = 0;
  // Sums of value * seconds.
  double batched_requests_ = 0;
  double batched_sequences_ = 0;
  double waiting_ = 0;
  KvShares kv_;
  double held_share_ = 0;
  double max_token_share_ = 0;
  double logical_blocks_ = 0;
  double saved_blocks_ = 0;

  std::vector<double> normalized_latency_;  // seconds
  std::vector<double> ttft_;
  std::vector<double> tpot_;
  std::vector<double> latency_;
  std::map<std::string, std::vector<double>> tenant_ttft_;
};

}  // namespace quire

#endif  // TOOLS_SIMULATOR_MEANS_H_
