// SPDX-License-Identifier: Apache-2.0
//
// simulate: one load on one modelled machine, with the engine that serves.

#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/program.h"
#include "tools/simulator/data_file.h"
#include "tools/simulator/engine_flags.h"
#include "tools/simulator/report.h"
#include "tools/simulator/serving_system.h"
#include "tools/simulator/simulation.h"

namespace quire {
namespace {

struct Flags {
  EngineFlags engine;
  std::string preset = "h200_llama8b";
  std::string workload = "sharegpt";
  std::string system = "paged";
  double rate = 1;
  int64_t num_prompts = 2000;
  int64_t seed = 1;
  int64_t kv_slots = 0;
  int64_t n = 1;
  int64_t beam_width = 0;
  int64_t prefix_len = 0;
  bool prefix_cache = false;
  std::string json;
};

int Fail(int exit_code, const absl::Status& status) {
  std::cerr << "simulate: " << status.message() << "\n";
  return exit_code;
}

void AddFlags(Flags* values, FlagSet* flags) {
  flags->Add("preset", &values->preset,
             absl::StrCat("Machine and model: a JSON file or one of ",
                          absl::StrJoin(PresetNames(), ", "), "."));
  flags->Add("workload", &values->workload,
             "Lengths: a file of {\"prompt_len\", \"output_len\"} lines, or "
             "sharegpt or alpaca: synthetic, with the published means.");
  flags->Add("system", &values->system,
             "paged, orca_max, orca_pow2, orca_oracle or static_batch.");
  flags->Add("rate", &values->rate, "Requests per second, Poisson.");
  flags->Add("num_prompts", &values->num_prompts, "Requests.");
  flags->Add("seed", &values->seed, "Of arrivals and of the lengths' order.");
  flags->Add("kv_slots", &values->kv_slots,
             "Tokens of the KV pool; 0: as the preset says.");
  flags->Add("n", &values->n, "Sequences sampled per request.");
  flags->Add("beam_width", &values->beam_width, "Beam search; 0: sampling.");
  flags->Add("prefix_len", &values->prefix_len,
             "Tokens in front of every prompt that are the same in all.");
  flags->Add("prefix_cache", &values->prefix_cache, "Reuse shared prefixes.");
  flags->Add("json", &values->json, "Write the result to this file too.");
  AddEngineFlags(&values->engine, flags);
}

absl::StatusOr<SimulationResult> Run(const Flags& flags) {
  SimulationOptions options;
  QUIRE_ASSIGN_OR_RETURN(options.cost, LoadCostModel(PresetFile(flags.preset)));
  if (flags.kv_slots > 0) {
    options.cost.kv_slots = static_cast<int32_t>(flags.kv_slots);
  }
  QUIRE_ASSIGN_OR_RETURN(const ServingSystem system,
                         FindServingSystem(flags.system));
  QUIRE_RETURN_IF_ERROR(ApplyEngineFlags(flags.engine, &options.engine));
  ApplyServingSystem(system, &options);
  options.prefix_cache = flags.prefix_cache;
  QUIRE_ASSIGN_OR_RETURN(const std::vector<RequestLengths> lengths,
                         ReadLengths(WorkloadFile(flags.workload)));
  if (flags.rate <= 0 || flags.num_prompts < 1) {
    return absl::InvalidArgumentError(
        "--rate and --num_prompts must be above 0");
  }
  const WorkloadOptions workload = {
      .rate = flags.rate,
      .num_requests = flags.num_prompts,
      .seed = static_cast<uint64_t>(flags.seed),
      .num_sequences = static_cast<int32_t>(flags.n),
      .beam_width = static_cast<int32_t>(flags.beam_width),
      .prefix_len = static_cast<int32_t>(flags.prefix_len)};
  return Simulate(options, MakeWorkload(lengths, workload));
}

int Main(const std::vector<std::string>& args) {
  Flags values;
  FlagSet flags("simulate --preset=h200_llama8b --rate=20 [flags]",
                "Serves a load on a modelled machine with the real engine "
                "under a simulated clock.");
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
  const auto result = Run(values);
  if (!result.ok()) {
    return Fail(absl::IsInvalidArgument(result.status()) ? 2 : 1,
                result.status());
  }
  std::cout << FormatResult(*result);
  if (values.json.empty()) return 0;
  std::ofstream file(values.json);
  file << ResultToJson(*result);
  if (!file.flush()) {
    return Fail(1, absl::UnavailableError("cannot write " + values.json));
  }
  return 0;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  quire::BeginProgram(argv[0]);
  return quire::Main({argv + 1, argv + argc});
}
