// SPDX-License-Identifier: Apache-2.0
//
// What a load run is, under the names of vLLM's `bench serve`.
#ifndef TOOLS_LOADGEN_OPTIONS_H_
#define TOOLS_LOADGEN_OPTIONS_H_

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/cli/flag_set.h"

namespace quire {

inline constexpr double kUnlimitedRate =
    std::numeric_limits<double>::infinity();

// How the request rate changes over the run.
enum class RampUp { kNone, kLinear, kExponential };

struct ArrivalOptions {
  double request_rate = kUnlimitedRate;  // requests/s
  double burstiness = 1;                 // shape of the gamma; 1 = Poisson
  RampUp ramp_up = RampUp::kNone;
  double ramp_up_start_rps = 1;
  double ramp_up_end_rps = 1;
};

struct DatasetOptions {
  std::string name = "random";  // random, lengths, prefix_repetition, custom
  std::string path;
  int64_t random_input_len = 1024;  // tokens
  int64_t random_output_len = 128;  // tokens
  double random_range_ratio = 0;    // lengths vary by this share, [0, 1)
  int64_t random_prefix_len = 0;    // tokens common to all prompts, on top
  int64_t prefix_repetition_prefix_len = 256;
  int64_t prefix_repetition_suffix_len = 256;
  int64_t prefix_repetition_num_prefixes = 10;
  int64_t prefix_repetition_output_len = 128;
  int64_t custom_output_len = 256;
};

// Limits in milliseconds that a good request keeps.
struct GoodputOptions {
  std::optional<double> ttft_ms = std::nullopt;
  std::optional<double> tpot_ms = std::nullopt;
  std::optional<double> e2el_ms = std::nullopt;

  bool any() const { return ttft_ms || tpot_ms || e2el_ms; }
};

struct LoadgenOptions {
  std::string target = "localhost:8001";
  std::string model;  // empty: the first that the server lists
  std::string label;
  ArrivalOptions arrival;
  DatasetOptions dataset;
  GoodputOptions goodput;
  int64_t num_prompts = 1000;
  int64_t max_concurrency = 0;  // 0: no limit
  int64_t num_channels = 4;     // connections the requests are spread over
  int64_t seed = 0;
  int64_t num_warmups = 0;
  double ready_check_timeout_s = 60;
  double request_timeout_s = 600;

  bool ignore_eos = false;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
  std::optional<double> min_p;
  // Of several values, each request takes one, drawn evenly by the seed.
  std::vector<int64_t> n = {1};           // sequences
  std::vector<int64_t> beam_width = {0};  // 0: it samples
  std::vector<int64_t> priority = {0};

  bool verify = false;
  int64_t verify_concurrency = 1;
  double cancel_fraction = 0;  // share of requests cancelled, [0, 1]
  bool check_blocks = false;

  std::vector<std::string> percentile_metrics = {"ttft", "tpot", "itl", "e2el"};
  std::vector<double> metric_percentiles = {50, 90, 95, 99};
  // Those that the console shows beside mean and median.
  std::vector<double> console_percentiles = {99};
  bool save_result = false;
  bool save_detailed = false;
  std::string result_dir = ".";
  std::string result_filename;  // empty: made from label, rate, model and date
  std::map<std::string, std::string> metadata;
  bool disable_progress = false;
};

// The flags of loadgen, before they are checked together.
struct LoadgenFlags {
  LoadgenOptions options;
  std::string backend = "grpc";
  std::string base_url;
  std::string request_rate = "inf";
  std::string ramp_up_strategy;
  std::vector<std::string> n = {"1"};
  std::vector<std::string> beam_width = {"0"};
  std::vector<std::string> priority = {"0"};
  std::vector<std::string> goodput;
  std::vector<std::string> metric_percentiles = {"50", "90", "95", "99"};
  std::vector<std::string> metadata;
};

// Borrows `loadgen` for the life of `flags`.
void AddLoadgenFlags(LoadgenFlags* loadgen, FlagSet* flags);

// InvalidArgument, in one line, for values that are out of range or do not go
// together. `flags` are those that parsed `loadgen`.
absl::StatusOr<LoadgenOptions> ToLoadgenOptions(const LoadgenFlags& loadgen,
                                                const FlagSet& flags);

}  // namespace quire

#endif  // TOOLS_LOADGEN_OPTIONS_H_
