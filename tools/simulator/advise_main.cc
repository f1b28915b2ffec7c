// SPDX-License-Identifier: Apache-2.0
//
// advise: which flags to serve a model on a machine with, for a load.

#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/model_config.h"
#include "common/status_macros.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/integer_flag.h"
#include "tools/cli/program.h"
#include "tools/cli/text_table.h"
#include "tools/simulator/advice.h"
#include "tools/simulator/data_file.h"
#include "tools/simulator/engine_flags.h"
#include "tools/simulator/model_cost.h"

namespace quire {
namespace {

struct Flags {
  EngineFlags engine;
  std::string model;
  std::string gpu = "h200_llama8b";
  std::string workload = "sharegpt";
  double rate = 1;
  int64_t num_prompts = 2000;
  int64_t tensor_parallel_size = 1;
  double memory_utilization = 0.9;
  double ttft_ms = 0;
  double tpot_ms = 0;
};

int Fail(int exit_code, const absl::Status& status) {
  std::cerr << "advise: " << status.message() << "\n";
  return exit_code;
}

void AddFlags(Flags* values, FlagSet* flags) {
  flags->Add("model", &values->model,
             "config.json of a Hugging Face model; empty: the preset's model.");
  flags->Add("gpu", &values->gpu,
             "Machine: a preset (h200_llama8b, a100_40g_opt13b ...) or a JSON "
             "file like those.");
  flags->Add("workload", &values->workload,
             "Lengths: a file of {\"prompt_len\", \"output_len\"} lines, or "
             "sharegpt or alpaca: synthetic, with the published means.");
  flags->Add("rate", &values->rate, "Requests per second, Poisson.");
  flags->Add("num_prompts", &values->num_prompts, "Requests of a trial.");
  flags->Add("tensor_parallel_size", &values->tensor_parallel_size,
             "Devices that share the model; with --model.");
  flags->Add("memory_utilization", &values->memory_utilization,
             "Share of a device's memory to use; with --model.");
  flags->Add("ttft_ms", &values->ttft_ms,
             "Time to the first token that 99 of 100 shall have; 0: any.");
  flags->Add("tpot_ms", &values->tpot_ms,
             "Time per output token, likewise; 0: any.");
  AddEngineFlags(&values->engine, flags);
}

absl::Status CheckNumbers(const Flags& flags) {
  if (!(flags.rate > 0) || flags.num_prompts < 1) {
    return absl::InvalidArgumentError(
        "--rate and --num_prompts must be above 0");
  }
  if (!(flags.ttft_ms >= 0) || !(flags.tpot_ms >= 0)) {
    return absl::InvalidArgumentError(
        "--ttft_ms and --tpot_ms must be 0 or more");
  }
  if (!(flags.memory_utilization > 0 && flags.memory_utilization <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--memory_utilization=", flags.memory_utilization,
                     ": it must be above 0 and at most 1"));
  }
  return absl::OkStatus();
}

absl::StatusOr<AdviceRequest> MakeRequest(const Flags& flags) {
  AdviceRequest request;
  QUIRE_RETURN_IF_ERROR(CheckNumbers(flags));
  QUIRE_ASSIGN_OR_RETURN(
      const auto num_ranks,
      InRange<int32_t>("tensor_parallel_size", flags.tensor_parallel_size, 1));
  absl::StatusOr<CostModel> cost = LoadCostModel(PresetFile(flags.gpu));
  QUIRE_RETURN_IF_ERROR(OfFlag("gpu", cost.status()));
  request.cost = *std::move(cost);
  if (!flags.model.empty()) {
    std::ifstream file(flags.model);
    std::ostringstream text;
    text << file.rdbuf();
    if (!file) {
      return absl::NotFoundError("--model: cannot read " + flags.model +
                                 "; name a config.json");
    }
    QUIRE_ASSIGN_OR_RETURN(const ModelConfig config,
                           ModelConfig::FromJson(text.str(), ""));
    QUIRE_RETURN_IF_ERROR(
        PutModel(config, num_ranks, flags.memory_utilization, &request.cost));
    request.engine.sliding_window = config.sliding_window();
  }
  QUIRE_RETURN_IF_ERROR(ApplyEngineFlags(flags.engine, &request.engine));
  absl::StatusOr<std::vector<RequestLengths>> lengths =
      ReadLengths(WorkloadFile(flags.workload));
  QUIRE_RETURN_IF_ERROR(OfFlag("workload", lengths.status()));
  request.lengths = *std::move(lengths);
  request.rate = flags.rate;
  request.num_requests = flags.num_prompts;
  request.limits = {flags.ttft_ms / 1e3, flags.tpot_ms / 1e3};
  return request;
}

void Print(const AdviceRequest& request, const std::vector<Trial>& trials) {
  std::vector<std::vector<std::string>> rows;
  const Trial* best = &trials.front();
  for (const Trial& trial : trials) {
    const SimulationResult& result = trial.result;
    rows.push_back(
        {trial.changed,
         absl::StrFormat("%.1f", 1e3 * result.normalized_latency.mean),
         absl::StrFormat("%.0f", 1e3 * result.ttft.p99),
         absl::StrFormat("%.1f", 1e3 * result.tpot.p99),
         absl::StrFormat("%.1f", result.num_batched_requests),
         absl::StrFormat("%d", result.counters.num_preemptions),
         absl::StrFormat("%.1f", 100 * result.max_token_share),
         trial.chosen ? "kept" : ""});
    if (trial.chosen) best = &trial;
  }
  std::cout << FormatTable({"tried", "ms/token", "TTFT p99 ms", "TPOT p99 ms",
                            "batched", "preempted", "KV peak %", ""},
                           rows);
  const SimulationResult& result = best->result;
  std::cout << absl::StrFormat(
      "\n%.2f requests/s arrive, %.2f are served; the pool holds %d blocks.\n",
      request.rate, result.requests_per_s,
      NumBlocks(request.cost, best->engine.block_size));
  if (best->excess > 0) {
    std::cout << "No choice keeps the limits at this rate: serve less of it "
                 "per replica.\n";
  }
  std::cout << "\n  " << FlagsToPaste(best->engine) << "\n";
}

int Main(const std::vector<std::string>& args) {
  Flags values;
  FlagSet flags("advise --gpu=h200_llama8b --rate=20 [flags]",
                "Tries flags in simulation and prints those to serve this "
                "load with.");
  AddFlags(&values, &flags);
  const auto positional = flags.Parse(args);
  if (!positional.ok()) return Fail(2, positional.status());
  if (flags.help_requested()) {
    std::cout << flags.Help();
    return 0;
  }
  if (!positional->empty()) {
    return Fail(2, absl::InvalidArgumentError("unexpected argument " +
                                              positional->front()));
  }
  const auto request = MakeRequest(values);
  if (!request.ok()) return Fail(2, request.status());
  const auto trials = FindAdvice(*request);
  if (!trials.ok()) return Fail(1, trials.status());
  Print(*request, *trials);
  return 0;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  quire::BeginProgram(argv[0]);
  return quire::Main({argv + 1, argv + argc});
}
