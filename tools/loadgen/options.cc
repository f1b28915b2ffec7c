// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/options.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"

namespace quire {
namespace {

constexpr int64_t kMaxSequences = 16;  // of a request; the API's bound
// Beyond what a run can hold, so that sums of these fit their types.
constexpr int64_t kMaxCount = 1 << 30;
constexpr int64_t kMaxTokens = 1 << 24;
constexpr int64_t kMaxChannels = 1024;

absl::Status Invalid(absl::string_view flag, absl::string_view value,
                     absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, "=", value, " is not ", want));
}

absl::Status CheckRange(absl::string_view flag, int64_t value, int64_t least,
                        int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return Invalid(flag, absl::StrCat(value),
                 absl::StrCat("in ", least, "..", most));
}

// Reads whole numbers of [least, most].
absl::Status SetList(absl::string_view flag,
                     const std::vector<std::string>& texts, int64_t least,
                     int64_t most, std::vector<int64_t>* values) {
  values->clear();
  for (const std::string& text : texts) {
    int64_t value;
    if (!absl::SimpleAtoi(text, &value) || value < least || value > most) {
      return Invalid(flag, text, absl::StrCat("in ", least, "..", most));
    }
    values->push_back(value);
  }
  if (values->empty()) return Invalid(flag, "", "a number");
  return absl::OkStatus();
}

absl::Status SetArrival(const LoadgenFlags& loadgen, const FlagSet& flags,
                        ArrivalOptions* arrival) {
  double* rate = &arrival->request_rate;
  if (!absl::SimpleAtod(loadgen.request_rate, rate) || !(*rate > 0)) {
    return Invalid("request_rate", loadgen.request_rate,
                   "a number of requests per second or inf");
  }
  if (!(arrival->burstiness > 0) || !std::isfinite(arrival->burstiness)) {
    return Invalid("burstiness", absl::StrCat(arrival->burstiness), "> 0");
  }
  if (loadgen.ramp_up_strategy.empty()) return absl::OkStatus();
  if (loadgen.ramp_up_strategy == "linear") {
    arrival->ramp_up = RampUp::kLinear;
  } else if (loadgen.ramp_up_strategy == "exponential") {
    arrival->ramp_up = RampUp::kExponential;
  } else {
    return Invalid("ramp_up_strategy", loadgen.ramp_up_strategy,
                   "linear or exponential");
  }
  if (!flags.WasGiven("ramp_up_start_rps") ||
      !flags.WasGiven("ramp_up_end_rps") || flags.WasGiven("request_rate")) {
    return absl::InvalidArgumentError(
        "--ramp_up_strategy takes its rates from --ramp_up_start_rps and "
        "--ramp_up_end_rps; give both, and no --request_rate");
  }
  for (const double rate :
       {arrival->ramp_up_start_rps, arrival->ramp_up_end_rps}) {
    if (rate > 0 && std::isfinite(rate)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--ramp_up_start_rps=", arrival->ramp_up_start_rps,
                     " and --ramp_up_end_rps=", arrival->ramp_up_end_rps,
                     " must be above 0 and finite"));
  }
  return absl::OkStatus();
}

absl::Status SetGoodput(const std::vector<std::string>& limits,
                        GoodputOptions* goodput) {
  for (const std::string& limit : limits) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(limit, absl::MaxSplits(':', 1));
    double value_ms;
    if (!absl::SimpleAtod(parts.second, &value_ms) || !(value_ms >= 0)) {
      return Invalid("goodput", limit, "of the form ttft:200 (milliseconds)");
    }
    if (parts.first == "ttft") {
      goodput->ttft_ms = value_ms;
    } else if (parts.first == "tpot") {
      goodput->tpot_ms = value_ms;
    } else if (parts.first == "e2el") {
      goodput->e2el_ms = value_ms;
    } else {
      return Invalid("goodput", limit, "a limit of ttft, tpot or e2el");
    }
  }
  return absl::OkStatus();
}

absl::Status SetPercentiles(const LoadgenFlags& loadgen, const FlagSet& flags,
                            LoadgenOptions* options) {
  static constexpr absl::string_view kMetrics[] = {"ttft", "tpot", "itl",
                                                   "e2el"};
  for (const std::string& metric : options->percentile_metrics) {
    if (std::find(std::begin(kMetrics), std::end(kMetrics), metric) ==
        std::end(kMetrics)) {
      return Invalid("percentile_metrics", metric,
                     absl::StrJoin(kMetrics, ", "));
    }
  }
  options->metric_percentiles.clear();
  for (const std::string& text : loadgen.metric_percentiles) {
    double percentile;
    if (!absl::SimpleAtod(text, &percentile) ||
        !(percentile >= 0 && percentile <= 100)) {
      return Invalid("metric_percentiles", text, "in 0..100");
    }
    options->metric_percentiles.push_back(percentile);
  }
  if (flags.WasGiven("metric_percentiles")) {
    options->console_percentiles = options->metric_percentiles;
  }
  return absl::OkStatus();
}

absl::Status SetMetadata(const std::vector<std::string>& items,
                         std::map<std::string, std::string>* metadata) {
  for (const std::string& item : items) {
    const std::vector<std::string> parts =
        absl::StrSplit(item, absl::MaxSplits('=', 1));
    if (parts.size() != 2) return Invalid("metadata", item, "key=value");
    (*metadata)[parts[0]] = parts[1];
  }
  return absl::OkStatus();
}

absl::Status CheckCounts(const LoadgenOptions& options) {
  const DatasetOptions& dataset = options.dataset;
  struct Count {
    const char* flag;
    int64_t value;
    int64_t least;
    int64_t most;
  };
  const Count counts[] = {
      {"num_prompts", options.num_prompts, 1, kMaxCount},
      {"max_concurrency", options.max_concurrency, 0, kMaxCount},
      {"num_channels", options.num_channels, 1, kMaxChannels},
      {"num_warmups", options.num_warmups, 0, kMaxCount},
      {"verify_concurrency", options.verify_concurrency, 1, kMaxCount},
      {"random_input_len", dataset.random_input_len, 1, kMaxTokens},
      {"random_output_len", dataset.random_output_len, 1, kMaxTokens},
      {"random_prefix_len", dataset.random_prefix_len, 0, kMaxTokens},
      {"prefix_repetition_prefix_len", dataset.prefix_repetition_prefix_len, 0,
       kMaxTokens},
      {"prefix_repetition_suffix_len", dataset.prefix_repetition_suffix_len, 1,
       kMaxTokens},
      {"prefix_repetition_num_prefixes", dataset.prefix_repetition_num_prefixes,
       1, kMaxCount},
      {"prefix_repetition_output_len", dataset.prefix_repetition_output_len, 1,
       kMaxTokens},
      {"custom_output_len", dataset.custom_output_len, 1, kMaxTokens},
      {"top_k", options.top_k.value_or(0), INT32_MIN, INT32_MAX},
  };
  for (const Count& count : counts) {
    QUIRE_RETURN_IF_ERROR(
        CheckRange(count.flag, count.value, count.least, count.most));
  }
  if (!(dataset.random_range_ratio >= 0 && dataset.random_range_ratio < 1)) {
    return Invalid("random_range_ratio",
                   absl::StrCat(dataset.random_range_ratio), "in [0, 1)");
  }
  if (!(options.cancel_fraction >= 0 && options.cancel_fraction <= 1)) {
    return Invalid("cancel_fraction", absl::StrCat(options.cancel_fraction),
                   "in [0, 1]");
  }
  return absl::OkStatus();
}

void AddLoadFlags(LoadgenFlags* loadgen, FlagSet* flags) {
  LoadgenOptions* options = &loadgen->options;
  flags->Add("num_prompts", &options->num_prompts, "requests to send");
  flags->Add("request_rate", &loadgen->request_rate,
             "mean arrivals per second; inf: all at once");
  flags->Add("burstiness", &options->arrival.burstiness,
             "shape of the gamma distribution between arrivals; 1: Poisson, "
             "less: burstier, more: steadier");
  flags->Add("max_concurrency", &options->max_concurrency,
             "requests in flight at once; 0: no limit");
  flags->Add("ramp_up_strategy", &loadgen->ramp_up_strategy,
             "let the rate grow over the run: linear or exponential");
  flags->Add("ramp_up_start_rps", &options->arrival.ramp_up_start_rps,
             "rate of the first request of a ramp");
  flags->Add("ramp_up_end_rps", &options->arrival.ramp_up_end_rps,
             "rate of the last request of a ramp");
  flags->Add("num_channels", &options->num_channels,
             "connections that the requests are spread over");
  flags->Add("num_warmups", &options->num_warmups,
             "requests to send before the run, not counted");
  flags->AddSeconds("ready_check_timeout_sec", &options->ready_check_timeout_s,
                    "wait this long for the server to become ready");
  flags->AddSeconds("request_timeout_s", &options->request_timeout_s,
                    "deadline of each request; 0: none");
  flags->Add("seed", &options->seed,
             "of arrivals, prompts, lengths, sampling and cancellations");
  flags->Add("verify", &options->verify,
             "afterwards repeat every request undisturbed and compare the "
             "token ids; any difference fails the run");
  flags->Add("verify_concurrency", &options->verify_concurrency,
             "requests in flight in the repetition");
  flags->Add("cancel_fraction", &options->cancel_fraction,
             "cancel this share of the requests at random moments, half by "
             "leaving, half by the Cancel call");
  flags->Add("check_blocks", &options->check_blocks,
             "afterwards wait until the server is idle and fail unless its "
             "free and cached blocks are all its blocks");
}

void AddDatasetFlags(DatasetOptions* dataset, FlagSet* flags) {
  flags->Add("dataset_name", &dataset->name,
             "random, lengths, prefix_repetition or custom");
  flags->Add("dataset_path", &dataset->path,
             "JSON lines: {\"prompt_len\", \"output_len\"} for lengths, "
             "{\"prompt\"} and perhaps \"output_tokens\" for custom");
  flags->Add("random_input_len", &dataset->random_input_len,
             "prompt tokens of random requests");
  flags->Add("random_output_len", &dataset->random_output_len,
             "output tokens of random requests");
  flags->Add("random_range_ratio", &dataset->random_range_ratio,
             "draw both lengths evenly from len*(1-r)..len*(1+r)");
  flags->Add("random_prefix_len", &dataset->random_prefix_len,
             "tokens that all random prompts begin with, on top");
  flags->Add("prefix_repetition_prefix_len",
             &dataset->prefix_repetition_prefix_len, "tokens of each prefix");
  flags->Add("prefix_repetition_suffix_len",
             &dataset->prefix_repetition_suffix_len,
             "tokens after the prefix, different in each prompt");
  flags->Add("prefix_repetition_num_prefixes",
             &dataset->prefix_repetition_num_prefixes, "different prefixes");
  flags->Add("prefix_repetition_output_len",
             &dataset->prefix_repetition_output_len, "output tokens");
  flags->Add("custom_output_len", &dataset->custom_output_len,
             "output tokens of custom prompts that name none");
}

void AddReportFlags(LoadgenFlags* loadgen, FlagSet* flags) {
  LoadgenOptions* options = &loadgen->options;
  flags->AddList("goodput", &loadgen->goodput,
                 "limits that a good request keeps, in ms, such as ttft:200 "
                 "tpot:50 e2el:3000");
  flags->AddList("percentile_metrics", &options->percentile_metrics,
                 "metrics to report");
  flags->AddList("metric_percentiles", &loadgen->metric_percentiles,
                 "percentiles to report");
  flags->Add("save_result", &options->save_result, "write the result as JSON");
  flags->Add("save_detailed", &options->save_detailed,
             "include every request in the JSON");
  flags->Add("result_dir", &options->result_dir, "folder of the JSON file");
  flags->Add("result_filename", &options->result_filename,
             "its name; empty: made from label, rate, model and date");
  flags->AddList("metadata", &loadgen->metadata,
                 "key=value pairs to put into the JSON");
  flags->Add("label", &options->label, "name of this run in the JSON");
  flags->Add("disable_progress", &options->disable_progress,
             "show no progress bar");
}

}  // namespace

void AddLoadgenFlags(LoadgenFlags* loadgen, FlagSet* flags) {
  LoadgenOptions* options = &loadgen->options;
  flags->Add("backend", &loadgen->backend, "grpc, Quire's public API");
  flags->Add("target", &options->target, "the server's public gRPC address");
  flags->Add("base_url", &loadgen->base_url,
             "another way to write --target, such as grpc://localhost:8001");
  flags->Add("model", &options->model,
             "a served model's name; empty: the first one listed");
  flags->Add("ignore_eos", &options->ignore_eos,
             "generate every output to its full length");
  flags->Add("temperature", &options->temperature,
             "as in the API; unset: the server's default");
  flags->Add("top_p", &options->top_p, "as in the API");
  flags->Add("top_k", &options->top_k, "as in the API");
  flags->Add("min_p", &options->min_p, "as in the API");
  flags->AddList("n", &loadgen->n,
                 "sequences that a request samples; of several values, such "
                 "as 1,1,4, each request takes one by the seed");
  flags->AddList("beam_width", &loadgen->beam_width,
                 "beams that a request searches with, n of which are returned "
                 "at most; 0: it samples; several values as with n");
  flags->AddList("priority", &loadgen->priority,
                 "priority of a request, the lower goes first; several values "
                 "as with n");
  AddLoadFlags(loadgen, flags);
  AddDatasetFlags(&options->dataset, flags);
  AddReportFlags(loadgen, flags);
}

absl::StatusOr<LoadgenOptions> ToLoadgenOptions(const LoadgenFlags& loadgen,
                                                const FlagSet& flags) {
  LoadgenOptions options = loadgen.options;
  if (loadgen.backend != "grpc") {
    return Invalid("backend", loadgen.backend,
                   "grpc, the only interface that this server has");
  }
  if (!loadgen.base_url.empty()) {
    absl::string_view url = loadgen.base_url;
    for (const absl::string_view scheme : {"grpc://", "http://"}) {
      absl::ConsumePrefix(&url, scheme);
    }
    absl::ConsumeSuffix(&url, "/");
    options.target = std::string(url);
  }
  QUIRE_RETURN_IF_ERROR(SetArrival(loadgen, flags, &options.arrival));
  QUIRE_RETURN_IF_ERROR(SetList("n", loadgen.n, 1, kMaxSequences, &options.n));
  QUIRE_RETURN_IF_ERROR(SetList("beam_width", loadgen.beam_width, 0,
                                kMaxSequences, &options.beam_width));
  for (const int64_t width : options.beam_width) {
    if (width == 1) return Invalid("beam_width", "1", "0, or 2 to 16");
  }
  QUIRE_RETURN_IF_ERROR(SetList("priority", loadgen.priority, INT32_MIN,
                                INT32_MAX, &options.priority));
  QUIRE_RETURN_IF_ERROR(SetGoodput(loadgen.goodput, &options.goodput));
  QUIRE_RETURN_IF_ERROR(SetPercentiles(loadgen, flags, &options));
  QUIRE_RETURN_IF_ERROR(SetMetadata(loadgen.metadata, &options.metadata));
  QUIRE_RETURN_IF_ERROR(CheckCounts(options));
  return options;
}

}  // namespace quire
