// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace quire {
namespace {

constexpr size_t kColumns = 50;
constexpr char kBackend[] = "grpc";

// One latency's name in keys, in lines and as a heading.
struct Metric {
  const char* key;
  const char* name;
  const char* heading;
  LatencySummary RunMetrics::*summary;
};

constexpr Metric kMetrics[] = {
    {"ttft", "TTFT", "Time to First Token", &RunMetrics::ttft},
    {"tpot", "TPOT", "Time per Output Token (excl. 1st token)",
     &RunMetrics::tpot},
    {"itl", "ITL", "Inter-token Latency", &RunMetrics::itl},
    {"e2el", "E2EL", "End-to-end Latency", &RunMetrics::e2el},
};
constexpr Metric kClientQueue = {"client_queue", "queueing",
                                 "Client Queueing (before sending)",
                                 &RunMetrics::client_queue};

// `text` between runs of `fill`, kColumns wide.
std::string Heading(const std::string& text, char fill) {
  const size_t num_fill = kColumns - std::min(kColumns, text.size());
  const size_t left = num_fill / 2;
  return absl::StrCat(std::string(left, fill), text,
                      std::string(num_fill - left, fill), "\n");
}

std::string Line(const std::string& label, int64_t value) {
  return absl::StrFormat("%-40s %-10d\n", label, value);
}

std::string Line(const std::string& label, double value) {
  return absl::StrFormat("%-40s %-10.2f\n", label, value);
}

// "99" or "99.9".
std::string PercentileName(double percentile) {
  return absl::StrCat(percentile);
}

std::string Block(const Metric& metric, const RunMetrics& metrics,
                  const std::vector<double>& percentiles) {
  const LatencySummary& summary = metrics.*metric.summary;
  std::string block = Heading(metric.heading, '-');
  block += Line(absl::StrCat("Mean ", metric.name, " (ms):"), summary.mean_ms);
  block +=
      Line(absl::StrCat("Median ", metric.name, " (ms):"), summary.median_ms);
  for (const double percentile : percentiles) {
    block += Line(absl::StrCat("P", PercentileName(percentile), " ",
                               metric.name, " (ms):"),
                  summary.percentiles_ms.at(percentile));
  }
  return block;
}

bool IsWanted(const LoadgenOptions& options, const Metric& metric) {
  const auto& wanted = options.percentile_metrics;
  return std::find(wanted.begin(), wanted.end(), metric.key) != wanted.end();
}

void AddSummary(const Metric& metric, const LoadgenOptions& options,
                const RunMetrics& metrics, nlohmann::ordered_json* json) {
  const LatencySummary& summary = metrics.*metric.summary;
  const auto key = [&metric](const std::string& statistic) {
    return absl::StrCat(statistic, "_", metric.key, "_ms");
  };
  (*json)[key("mean")] = summary.mean_ms;
  (*json)[key("median")] = summary.median_ms;
  (*json)[key("std")] = summary.std_ms;
  for (const double percentile : options.metric_percentiles) {
    (*json)[key("p" + PercentileName(percentile))] =
        summary.percentiles_ms.at(percentile);
  }
}

// "linear" or "exponential". REQUIRES: there is a ramp.
const char* RampUpName(RampUp ramp_up) {
  return ramp_up == RampUp::kLinear ? "linear" : "exponential";
}

void AddRampUp(const ArrivalOptions& arrival, nlohmann::ordered_json* json) {
  if (arrival.ramp_up == RampUp::kNone) return;
  (*json)["ramp_up_strategy"] = RampUpName(arrival.ramp_up);
  (*json)["ramp_up_start_rps"] = arrival.ramp_up_start_rps;
  (*json)["ramp_up_end_rps"] = arrival.ramp_up_end_rps;
}

// Of the requests' arrivals, for the file's name: "2.5qps" or "infqps".
std::string RateName(const ArrivalOptions& arrival) {
  if (arrival.ramp_up != RampUp::kNone) {
    return absl::StrFormat("ramp-up-%s-%gqps-%gqps",
                           RampUpName(arrival.ramp_up),
                           arrival.ramp_up_start_rps, arrival.ramp_up_end_rps);
  }
  if (std::isinf(arrival.request_rate)) return "infqps";
  return absl::StrFormat("%.1fqps", arrival.request_rate);
}

// A request's text, or those of all its sequences.
nlohmann::ordered_json TextsJson(const RequestRecord& record) {
  if (record.sequences.empty()) return "";
  if (record.sequences.size() == 1) return record.sequences[0].text;
  nlohmann::ordered_json texts = nlohmann::ordered_json::array();
  for (const OutputSequence& sequence : record.sequences) {
    texts.push_back(sequence.text);
  }
  return texts;
}

void AddDetails(const RunResult& run, nlohmann::ordered_json* json) {
  for (const char* key :
       {"input_lens", "output_lens", "ttfts", "itls", "latencies",
        "start_times", "generated_texts", "errors"}) {
    (*json)[key] = nlohmann::ordered_json::array();
  }
  for (const RequestRecord& record : run.records) {
    std::vector<double> itls_s;
    for (const double gap_ms : ItlMs(record)) itls_s.push_back(gap_ms / 1000);
    (*json)["input_lens"].push_back(record.num_prompt_tokens);
    (*json)["output_lens"].push_back(record.num_output_tokens());
    (*json)["ttfts"].push_back(TtftMs(record) / 1000);
    (*json)["itls"].push_back(itls_s);
    (*json)["latencies"].push_back(E2elMs(record) / 1000);
    (*json)["start_times"].push_back(
        absl::ToDoubleSeconds(record.sent - run.start));
    (*json)["generated_texts"].push_back(TextsJson(record));
    (*json)["errors"].push_back(record.outcome == RequestOutcome::kCancelled
                                    ? "cancelled"
                                    : record.error);
  }
}

// JSON has no infinity; vLLM writes this word.
nlohmann::ordered_json RateJson(double rate) {
  if (std::isinf(rate)) return "inf";
  return rate;
}

std::string DateText(absl::Time date) {
  return absl::FormatTime("%Y%m%d-%H%M%S", date, absl::UTCTimeZone());
}

}  // namespace

std::string ConsoleBlock(const LoadgenOptions& options,
                         const RunMetrics& metrics) {
  std::string block = Heading(" Serving Benchmark Result ", '=');
  block += Line("Successful requests:", metrics.num_completed);
  block += Line("Failed requests:", metrics.num_failed);
  if (options.cancel_fraction > 0) {
    block += Line("Cancelled requests:", metrics.num_cancelled);
  }
  if (options.max_concurrency > 0) {
    block += Line("Maximum request concurrency:", options.max_concurrency);
  }
  if (std::isfinite(options.arrival.request_rate)) {
    block +=
        Line("Request rate configured (RPS):", options.arrival.request_rate);
  }
  block += Line("Benchmark duration (s):", metrics.duration_s);
  block += Line("Total input tokens:", metrics.num_input_tokens);
  block += Line("Total generated tokens:", metrics.num_output_tokens);
  block += Line("Request throughput (req/s):", metrics.request_throughput);
  if (options.goodput.any()) {
    block += Line("Request goodput (req/s):", metrics.request_goodput);
  }
  block += Line("Output token throughput (tok/s):", metrics.output_throughput);
  block += Line("Peak output token throughput (tok/s):",
                metrics.max_output_tokens_per_s);
  block += Line("Peak concurrent requests:", metrics.max_concurrent_requests);
  block +=
      Line("Total token throughput (tok/s):", metrics.total_token_throughput);
  for (const Metric& metric : kMetrics) {
    if (IsWanted(options, metric)) {
      block += Block(metric, metrics, options.console_percentiles);
    }
  }
  if (options.max_concurrency > 0) {
    block += Block(kClientQueue, metrics, options.console_percentiles);
  }
  return block + std::string(kColumns, '=') + "\n";
}

nlohmann::ordered_json ResultJson(const LoadgenOptions& options,
                                  const RunMetrics& metrics,
                                  const RunResult& run,
                                  const VerifyResult* verify, absl::Time date) {
  nlohmann::ordered_json json = {
      {"date", DateText(date)},
      {"backend", kBackend},
      {"endpoint_type", kBackend},
      {"label", options.label},
      {"model_id", options.model},
      {"tokenizer_id", options.model},
      {"num_prompts", options.num_prompts},
      {"request_rate", RateJson(options.arrival.request_rate)},
      {"burstiness", options.arrival.burstiness},
      {"max_concurrency", nullptr},
      {"duration", metrics.duration_s},
      {"completed", metrics.num_completed},
      {"failed", metrics.num_failed},
      {"cancelled", metrics.num_cancelled},
      {"total_input_tokens", metrics.num_input_tokens},
      {"total_output_tokens", metrics.num_output_tokens},
      {"request_throughput", metrics.request_throughput},
      {"request_goodput", nullptr},
      {"output_throughput", metrics.output_throughput},
      {"total_token_throughput", metrics.total_token_throughput},
      {"max_output_tokens_per_s", metrics.max_output_tokens_per_s},
      {"max_concurrent_requests", metrics.max_concurrent_requests},
  };
  if (options.max_concurrency > 0) {
    json["max_concurrency"] = options.max_concurrency;
  }
  AddRampUp(options.arrival, &json);
  if (options.goodput.any()) {
    json["request_goodput"] = metrics.request_goodput;
  }
  for (const Metric& metric : kMetrics) {
    if (IsWanted(options, metric)) AddSummary(metric, options, metrics, &json);
  }
  AddSummary(kClientQueue, options, metrics, &json);
  json["seed"] = options.seed;
  if (verify != nullptr) {
    json["compared"] = verify->num_compared;
    json["differing"] = verify->num_differing;
    json["unrepeated"] = verify->num_unrepeated;
  }
  for (const auto& [key, value] : options.metadata) json[key] = value;
  if (options.save_detailed) AddDetails(run, &json);
  return json;
}

std::string ResultFilename(const LoadgenOptions& options, absl::Time date) {
  if (!options.result_filename.empty()) return options.result_filename;
  std::string name =
      absl::StrCat(options.label.empty() ? kBackend : options.label, "-",
                   RateName(options.arrival));
  if (options.max_concurrency > 0) {
    absl::StrAppend(&name, "-concurrency", options.max_concurrency);
  }
  absl::StrAppend(&name, "-", options.model, "-", DateText(date), ".json");
  return absl::StrReplaceAll(name, {{"/", "_"}});
}

}  // namespace quire
