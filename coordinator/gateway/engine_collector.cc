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

// Builds one family; all its metrics carry the model's name, and those of one
// group its number.
class Family {
 public:
  Family(const char* name, const char* help, MetricType type,
         const std::string& model_name)
      : model_name_(model_name) {
    family_.name = name;
    family_.help = help;
    family_.type = type;
  }

  Family& Add(size_t group, double value,
              std::vector<ClientMetric::Label> labels = {}) {
    ClientMetric metric;
    metric.gauge.value = value;
    metric.counter.value = value;
    metric.label = std::move(labels);
    metric.label.push_back({"model_name", model_name_});
    metric.label.push_back({"group", absl::StrCat(group)});
    family_.metric.push_back(std::move(metric));
    return *this;
  }

  // Of all groups.
  Family& Add(ClientMetric metric) {
    metric.label = {{"model_name", model_name_}};
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
                                 std::vector<Source> sources)
    : model_name_(model_name),
      sources_(std::move(sources)),
      queue_seconds_(RequestBuckets()),
      prefill_seconds_(RequestBuckets()) {}

std::vector<MetricFamily> EngineCollector::Collect() const {
  std::vector<MetricFamily> families;
  std::vector<EngineMetrics> groups;
  for (const Source& source : sources_) {
    groups.push_back(source.take_metrics());
  }
  AddGauges(&families);
  AddCounters(groups, &families);
  AddWaits(groups, &families);
  AddHistograms(groups, &families);
  return families;
}

void EngineCollector::AddGauges(std::vector<MetricFamily>* families) const {
  const auto gauge = [&](const char* name, const char* help) {
    return Family(name, help, MetricType::Gauge, model_name_);
  };
  Family running =
      gauge("quire_requests_running", "Requests that hold KV blocks.");
  Family waiting =
      gauge("quire_requests_waiting", "Requests that wait to be scheduled.");
  Family usage =
      gauge("quire_kv_cache_usage_ratio", "Share of KV blocks in use.");
  Family blocks = gauge("quire_kv_blocks", "KV blocks by what they hold.");
  Family host_blocks =
      gauge("quire_host_kv_blocks", "KV blocks of host memory by contents.");
  Family config = gauge("quire_cache_config_info", "The KV cache's shape.");
  Family ready = gauge("quire_ready", "Whether a worker group is ready.");
  for (size_t group = 0; group < sources_.size(); ++group) {
    const EngineStats stats = sources_[group].engine->Stats();
    const EngineInfo info = sources_[group].engine->Info();
    const int32_t num_used =
        stats.num_blocks - stats.num_free_blocks - stats.num_cached_blocks;
    running.Add(group, stats.num_running);
    waiting.Add(group, stats.num_waiting);
    usage.Add(group,
              stats.num_blocks == 0 ? 0 : 1.0 * num_used / stats.num_blocks);
    blocks.Add(group, stats.num_free_blocks, {{"state", "free"}})
        .Add(group, num_used, {{"state", "used"}})
        .Add(group, stats.num_cached_blocks, {{"state", "cached"}});
    host_blocks.Add(group, stats.num_free_host_blocks, {{"state", "free"}})
        .Add(group, stats.num_host_prefix_blocks, {{"state", "prefix"}})
        .Add(group,
             stats.num_host_blocks - stats.num_free_host_blocks -
                 stats.num_host_prefix_blocks,
             {{"state", "preempted"}});
    config.Add(group, 1,
               {{"block_size", absl::StrCat(info.block_size)},
                {"num_gpu_blocks", absl::StrCat(info.num_blocks)}});
    ready.Add(group, stats.ready ? 1 : 0);
  }
  for (Family* family :
       {&running, &waiting, &usage, &blocks, &host_blocks, &config, &ready}) {
    families->push_back(family->Take());
  }
}

void EngineCollector::AddCounters(const std::vector<EngineMetrics>& groups,
                                  std::vector<MetricFamily>* families) const {
  const auto add = [&](const char* name, const char* help,
                       int64_t EngineCounters::*counter) {
    Family family(name, help, MetricType::Counter, model_name_);
    for (size_t group = 0; group < groups.size(); ++group) {
      family.Add(group, static_cast<double>(groups[group].counters.*counter));
    }
    families->push_back(family.Take());
  };
  add("quire_prompt_tokens_total", "Prompt tokens of accepted requests.",
      &EngineCounters::num_prompt_tokens);
  add("quire_generation_tokens_total", "Output tokens.",
      &EngineCounters::num_generated_tokens);
  add("quire_preemptions_total", "Sequence groups that lost their blocks.",
      &EngineCounters::num_preemptions);
  add("quire_prefix_cache_query_tokens_total",
      "Prompt tokens looked for in the prefix cache.",
      &EngineCounters::num_cache_query_tokens);
  Family hits("quire_prefix_cache_hit_tokens_total",
              "Prompt tokens found computed in the prefix cache, by where.",
              MetricType::Counter, model_name_);
  for (size_t group = 0; group < groups.size(); ++group) {
    const EngineCounters& counters = groups[group].counters;
    hits.Add(group,
             static_cast<double>(counters.num_cache_hit_tokens -
                                 counters.num_host_hit_tokens),
             {{"tier", "device"}})
        .Add(group, static_cast<double>(counters.num_host_hit_tokens),
             {{"tier", "host"}});
  }
  families->push_back(hits.Take());
  add("quire_copied_blocks_total",
      "KV blocks copied because a sibling shared them.",
      &EngineCounters::num_copied_blocks);
  add("quire_swapped_out_blocks_total", "KV blocks moved to host memory.",
      &EngineCounters::num_swapped_out_blocks);
  add("quire_swapped_in_blocks_total", "KV blocks moved back from it.",
      &EngineCounters::num_swapped_in_blocks);
  add("quire_steps_total", "Steps planned.", &EngineCounters::num_steps);
  add("quire_wasted_tokens_total",
      "Tokens sampled after their sequence had ended.",
      &EngineCounters::num_wasted_tokens);
  add("quire_stale_results_total", "Step results of another epoch, dropped.",
      &EngineCounters::num_stale_results);
  add("quire_resyncs_total", "Times that block tables had to be restated.",
      &EngineCounters::num_resyncs);
  add("quire_adopted_requests_total",
      "Requests taken over from a group that was lost.",
      &EngineCounters::num_adopted);
}

void EngineCollector::AddWaits(const std::vector<EngineMetrics>& groups,
                               std::vector<MetricFamily>* families) const {
  Family waits("quire_request_wait_seconds_total",
               "Time that requests have waited, by reason.",
               MetricType::Counter, model_name_);
  Family served("quire_tenant_tokens_total",
                "Tokens that tenants were served, first computed or sampled.",
                MetricType::Counter, model_name_);
  for (size_t group = 0; group < groups.size(); ++group) {
    const EngineMetrics& metrics = groups[group];
    for (int32_t reason = 0; reason < kNumWaitReasons; ++reason) {
      waits.Add(
          group, absl::ToDoubleSeconds(metrics.waited[reason]),
          {{"reason",
            std::string(WaitReasonName(static_cast<WaitReason>(reason)))}});
    }
    for (const TenantServed& tenant : metrics.tenants) {
      served.Add(group, static_cast<double>(tenant.num_prompt_tokens),
                 {{"tenant", tenant.label}, {"kind", "prompt"}});
      served.Add(group, static_cast<double>(tenant.num_output_tokens),
                 {{"tenant", tenant.label}, {"kind", "output"}});
    }
  }
  families->push_back(waits.Take());
  families->push_back(served.Take());
}

void EngineCollector::AddHistograms(const std::vector<EngineMetrics>& groups,
                                    std::vector<MetricFamily>* families) const {
  std::vector<RequestSample> samples;
  for (const EngineMetrics& metrics : groups) {
    samples.insert(samples.end(), metrics.requests.begin(),
                   metrics.requests.end());
  }
  for (const RequestSample& sample : samples) {
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
