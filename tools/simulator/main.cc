// SPDX-License-Identifier: Apache-2.0
//
// simulate: one load on one modelled machine, with the engine that serves.

#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/request_limits.h"
#include "common/status_macros.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/integer_flag.h"
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
  absl::StatusOr<CostModel> cost = LoadCostModel(PresetFile(flags.preset));
  QUIRE_RETURN_IF_ERROR(OfFlag("preset", cost.status()));
  options.cost = *std::move(cost);
  QUIRE_ASSIGN_OR_RETURN(const auto kv_slots,
                         InRange<int32_t>("kv_slots", flags.kv_slots, 0));
  if (kv_slots > 0) options.cost.kv_slots = kv_slots;
  QUIRE_ASSIGN_OR_RETURN(const ServingSystem system,
                         FindServingSystem(flags.system));
  QUIRE_RETURN_IF_ERROR(ApplyEngineFlags(flags.engine, &options.engine));
  ApplyServingSystem(system, &options);
  options.prefix_cache = flags.prefix_cache;
  const absl::StatusOr<std::vector<RequestLengths>> lengths =
      ReadLengths(WorkloadFile(flags.workload));
  QUIRE_RETURN_IF_ERROR(OfFlag("workload", lengths.status()));
  if (!(flags.rate > 0) || flags.num_prompts < 1) {
    return absl::InvalidArgumentError(
        "--rate and --num_prompts must be above 0");
  }
  WorkloadOptions workload;
  workload.rate = flags.rate;
  workload.num_requests = flags.num_prompts;
  workload.seed = static_cast<uint64_t>(flags.seed);
  QUIRE_ASSIGN_OR_RETURN(
      workload.num_sequences,
      InRange<int32_t>("n", flags.n, 1, kMaxSequencesPerGroup));
  QUIRE_ASSIGN_OR_RETURN(
      workload.beam_width,
      InRange<int32_t>("beam_width", flags.beam_width, 0, kMaxBeamWidth));
  QUIRE_ASSIGN_OR_RETURN(workload.prefix_len,
                         InRange<int32_t>("prefix_len", flags.prefix_len, 0));
  return Simulate(options, MakeWorkload(*lengths, workload));
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
