// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/engine_collector.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/metrics/buckets.h"
#include "coordinator/scheduler/wait_reason.h"

namespace quire {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// Builds one family; all its metrics carry the model's name.
class Family {
 public:
  Family(const char* name, const char* help, MetricType type,
         const std::string& model_name)
      : model_name_(model_name) {
    family_.name = name;
    family_.help = help;
    family_.type = type;
  }

  Family& Add(double value, std::vector<ClientMetric::Label> labels = {}) {
    ClientMetric metric;
    metric.gauge.value = value;
    metric.counter.value = value;
    return Add(std::move(metric), std::move(labels));
  }

  Family& Add(ClientMetric metric,
              std::vector<ClientMetric::Label> labels = {}) {
    metric.label = std::move(labels);
    metric.label.push_back({"model_name", model_name_});
    family_.metric.push_back(std::move(metric));
    return *this;
  }

  MetricFamily Take() { return std::move(family_); }

 private:
  const std::string& model_name_;
  MetricFamily family_;
};

}  // namespace

EngineCollector::EngineCollector(const std::string& model_name,
                                 const EngineClient* engine,
                                 std::function<EngineMetrics()> take_metrics)
    : model_name_(model_name),
      engine_(engine),
      take_metrics_(std::move(take_metrics)),
      queue_seconds_(RequestBuckets()),
      prefill_seconds_(RequestBuckets()) {}

std::vector<MetricFamily> EngineCollector::Collect() const {
  std::vector<MetricFamily> families;
  const EngineMetrics metrics = take_metrics_();
  AddGauges(&families);
  AddCounters(metrics.counters, &families);
  AddWaits(metrics, &families);
  AddHistograms(metrics, &families);
  return families;
}

void EngineCollector::AddGauges(std::vector<MetricFamily>* families) const {
  const EngineStats stats = engine_->Stats();
  const EngineInfo info = engine_->Info();
  const int32_t num_used =
      stats.num_blocks - stats.num_free_blocks - stats.num_cached_blocks;
  const double usage =
      stats.num_blocks == 0 ? 0 : 1.0 * num_used / stats.num_blocks;
  const auto gauge = [&](const char* name, const char* help) {
    return Family(name, help, MetricType::Gauge, model_name_);
  };
  families->push_back(
      gauge("quire_requests_running", "Requests that hold KV blocks.")
          .Add(stats.num_running)
          .Take());
  families->push_back(
      gauge("quire_requests_waiting", "Requests that wait to be scheduled.")
          .Add(stats.num_waiting)
          .Take());
  families->push_back(
      gauge("quire_kv_cache_usage_ratio", "Share of KV blocks in use.")
          .Add(usage)
          .Take());
  families->push_back(gauge("quire_kv_blocks", "KV blocks by what they hold.")
                          .Add(stats.num_free_blocks, {{"state", "free"}})
                          .Add(num_used, {{"state", "used"}})
                          .Add(stats.num_cached_blocks, {{"state", "cached"}})
                          .Take());
  families->push_back(
      gauge("quire_host_kv_blocks", "KV blocks of host memory by contents.")
          .Add(stats.num_free_host_blocks, {{"state", "free"}})
          .Add(stats.num_host_prefix_blocks, {{"state", "prefix"}})
          .Add(stats.num_host_blocks - stats.num_free_host_blocks -
                   stats.num_host_prefix_blocks,
               {{"state", "preempted"}})
          .Take());
  families->push_back(
      gauge("quire_cache_config_info", "The KV cache's shape.")
          .Add(1, {{"block_size", absl::StrCat(info.block_size)},
                   {"num_gpu_blocks", absl::StrCat(info.num_blocks)}})
          .Take());
  families->push_back(gauge("quire_ready", "Whether a worker group is ready.")
                          .Add(stats.ready ? 1 : 0)
                          .Take());
}

void EngineCollector::AddCounters(const EngineCounters& counters,
                                  std::vector<MetricFamily>* families) const {
  const auto add = [&](const char* name, const char* help, int64_t value) {
    families->push_back(Family(name, help, MetricType::Counter, model_name_)
                            .Add(static_cast<double>(value))
                            .Take());
  };
  add("quire_prompt_tokens_total", "Prompt tokens of accepted requests.",
      counters.num_prompt_tokens);
  add("quire_generation_tokens_total", "Output tokens.",
      counters.num_generated_tokens);
  add("quire_preemptions_total", "Sequence groups that lost their blocks.",
      counters.num_preemptions);
  add("quire_prefix_cache_query_tokens_total",
      "Prompt tokens looked for in the prefix cache.",
      counters.num_cache_query_tokens);
  families->push_back(
      Family("quire_prefix_cache_hit_tokens_total",
             "Prompt tokens found computed in the prefix cache, by where.",
             MetricType::Counter, model_name_)
          .Add(static_cast<double>(counters.num_cache_hit_tokens -
                                   counters.num_host_hit_tokens),
               {{"tier", "device"}})
          .Add(static_cast<double>(counters.num_host_hit_tokens),
               {{"tier", "host"}})
          .Take());
  add("quire_copied_blocks_total",
      "KV blocks copied because a sibling shared them.",
      counters.num_copied_blocks);
  add("quire_swapped_out_blocks_total", "KV blocks moved to host memory.",
      counters.num_swapped_out_blocks);
  add("quire_swapped_in_blocks_total", "KV blocks moved back from it.",
      counters.num_swapped_in_blocks);
  add("quire_steps_total", "Steps planned.", counters.num_steps);
  add("quire_wasted_tokens_total",
      "Tokens sampled after their sequence had ended.",
      counters.num_wasted_tokens);
  add("quire_stale_results_total", "Step results of another epoch, dropped.",
      counters.num_stale_results);
  add("quire_resyncs_total", "Times that block tables had to be restated.",
      counters.num_resyncs);
}

void EngineCollector::AddWaits(const EngineMetrics& metrics,
                               std::vector<MetricFamily>* families) const {
  Family waits("quire_request_wait_seconds_total",
               "Time that requests have waited, by reason.",
               MetricType::Counter, model_name_);
  for (int32_t reason = 0; reason < kNumWaitReasons; ++reason) {
    waits.Add(absl::ToDoubleSeconds(metrics.waited[reason]),
              {{"reason",
                std::string(WaitReasonName(static_cast<WaitReason>(reason)))}});
  }
  families->push_back(waits.Take());
  Family served("quire_tenant_tokens_total",
                "Tokens that tenants were served, first computed or sampled.",
                MetricType::Counter, model_name_);
  for (const TenantServed& tenant : metrics.tenants) {
    served.Add(static_cast<double>(tenant.num_prompt_tokens),
               {{"tenant", tenant.label}, {"kind", "prompt"}});
    served.Add(static_cast<double>(tenant.num_output_tokens),
               {{"tenant", tenant.label}, {"kind", "output"}});
  }
  families->push_back(served.Take());
}

void EngineCollector::AddHistograms(const EngineMetrics& metrics,
                                    std::vector<MetricFamily>* families) const {
  for (const RequestSample& sample : metrics.requests) {
    if (sample.first_scheduled == absl::InfinitePast()) continue;
    queue_seconds_.Observe(
        absl::ToDoubleSeconds(sample.first_scheduled - sample.arrival));
    if (sample.first_token == absl::InfinitePast()) continue;
    prefill_seconds_.Observe(
        absl::ToDoubleSeconds(sample.first_token - sample.first_scheduled));
  }
  families->push_back(Family("quire_queue_seconds",
                             "Arrival to the first step of a request.",
                             MetricType::Histogram, model_name_)
                          .Add(queue_seconds_.Collect())
                          .Take());
  families->push_back(Family("quire_prefill_seconds",
                             "First step to first token of a request.",
                             MetricType::Histogram, model_name_)
                          .Add(prefill_seconds_.Collect())
                          .Take());
}

}  // namespace quire
