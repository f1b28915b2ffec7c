// SPDX-License-Identifier: Apache-2.0
//
// What `quire generate --input` runs: a file of prompts to a file of answers,
// by a model inside this process or by a server.
#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/clock.h"
#include "common/lock_order.h"
#include "common/status_macros.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/progress.h"
#include "tools/cli/rpc.h"
#include "tools/cli/signals.h"
#include "tools/embedded/batch_output.h"
#include "tools/embedded/batch_run.h"
#include "tools/embedded/llm.h"
#include "tools/embedded/server_requests.h"
#include "tools/quire/binaries.h"
#include "tools/quire/sampling_flags.h"
#include "tools/quire/text_check.h"

namespace quire {
namespace {

constexpr int64_t kServerJobs = 64;
constexpr int64_t kMaxJobs = 4096;

struct Flags {
  std::string input;
  std::string output;
  int64_t jobs = 0;
  std::string target;
  std::string model;
  std::string device = "cpu";
  int64_t num_threads = 0;
  int64_t tensor_parallel_size = 1;
  std::string dtype = "auto";
  std::string load_format = "auto";
  int64_t max_model_len = 0;
  int64_t max_num_seqs = 128;
  int64_t max_num_batched_tokens = 2048;
  int64_t block_size = 16;
  double memory_utilization = 0.9;
  int64_t num_gpu_blocks_override = 0;
  double swap_space = 4;
  bool enable_prefix_caching = true;
  bool progress = true;
  SamplingFlags sampling;
};

void AddFlags(Flags* flags, FlagSet* set) {
  set->Add("input", &flags->input,
           "lines {\"id\", \"prompt\" or \"token_ids\", \"sampling\": {...}}");
  set->Add("output", &flags->output,
           "gets a line for each, with its id, as they end; answers that it "
           "has already are not generated again, errors in it are left out "
           "and their lines tried again");
  set->Add("jobs", &flags->jobs,
           "requests at once; 0: as many as the engine has use for, or 64 of a "
           "server's");
  set->Add("target", &flags->target,
           "ask the server at this address; empty: load --model here");
  set->Add("model", &flags->model,
           "a Hugging Face folder; without it, the demo model. With --target, "
           "a served model's name");
  set->Add("device", &flags->device, "cpu, cuda or cuda:N");
  set->Add("num_threads", &flags->num_threads,
           "threads of each rank on the CPU; 0: an equal share of the cores");
  set->Add("tensor_parallel_size", &flags->tensor_parallel_size,
           "ranks that share the model, a thread each; on GPUs one");
  set->Add("dtype", &flags->dtype, "auto (as stored), float32 or bfloat16");
  set->Add("load_format", &flags->load_format,
           "auto or safetensors: read the weights; dummy: random ones");
  set->Add("max_model_len", &flags->max_model_len,
           "tokens of prompt and output; 0: as many as the model knows");
  set->Add("max_num_seqs", &flags->max_num_seqs, "sequences of a step");
  set->Add("max_num_batched_tokens", &flags->max_num_batched_tokens,
           "tokens of a step");
  set->Add("block_size", &flags->block_size, "tokens of a KV block");
  set->Add("memory_utilization", &flags->memory_utilization,
           "share of the memory to use");
  set->Add("num_gpu_blocks_override", &flags->num_gpu_blocks_override,
           "KV blocks; 0: as many as the memory holds");
  set->Add("swap_space", &flags->swap_space,
           "GiB of host memory of each rank to move KV blocks to");
  set->Add("enable_prefix_caching", &flags->enable_prefix_caching,
           "let requests reuse each other's prefixes");
  set->Add("progress", &flags->progress, "show how far it is");
  AddSamplingFlags(&flags->sampling, set);
}

int Fail(const std::string& message, int code) {
  std::cerr << "quire generate: " << message << std::endl;
  return code;
}

absl::StatusOr<int32_t> Narrow(const char* name, int64_t value) {
  if (value >= 0 && value <= INT32_MAX) return static_cast<int32_t>(value);
  return absl::InvalidArgumentError(
      absl::StrCat("--", name, "=", value, " is out of range"));
}

absl::StatusOr<LLMOptions> ToOptions(const Flags& flags) {
  LLMOptions options;
  options.model = flags.model;
  if (options.model.empty()) {
    QUIRE_ASSIGN_OR_RETURN(options.model, FindDemoModel(OwnPath()));
  }
  options.device = flags.device;
  options.dtype = flags.dtype;
  options.load_format = flags.load_format;
  QUIRE_ASSIGN_OR_RETURN(options.num_threads,
                         Narrow("num_threads", flags.num_threads));
  QUIRE_ASSIGN_OR_RETURN(
      options.tensor_parallel_size,
      Narrow("tensor_parallel_size", flags.tensor_parallel_size));
  QUIRE_ASSIGN_OR_RETURN(options.max_model_len,
                         Narrow("max_model_len", flags.max_model_len));
  QUIRE_ASSIGN_OR_RETURN(options.max_num_seqs,
                         Narrow("max_num_seqs", flags.max_num_seqs));
  QUIRE_ASSIGN_OR_RETURN(
      options.max_num_batched_tokens,
      Narrow("max_num_batched_tokens", flags.max_num_batched_tokens));
  QUIRE_ASSIGN_OR_RETURN(options.block_size,
                         Narrow("block_size", flags.block_size));
  QUIRE_ASSIGN_OR_RETURN(
      options.num_blocks_override,
      Narrow("num_gpu_blocks_override", flags.num_gpu_blocks_override));
  if (!(flags.swap_space >= 0 && flags.swap_space <= 1 << 20)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--swap_space=", flags.swap_space, " is out of range"));
  }
  options.memory_utilization = flags.memory_utilization;
  options.swap_space_bytes =
      static_cast<int64_t>(flags.swap_space * (int64_t{1} << 30));
  options.enable_prefix_caching = flags.enable_prefix_caching;
  options.show_progress = flags.progress;
  QUIRE_RETURN_IF_ERROR(CheckLLMOptions(options));
  return options;
}

int Report(const absl::StatusOr<BatchCounts>& counts) {
  if (!counts.ok()) {
    return Fail(absl::StrCat(DescribeStatus(counts.status()),
                             "; the same command goes on from here"),
                1);
  }
  std::cerr << absl::StrFormat(
                   "quire generate: %d answered, %d refused, %d there before, "
                   "of %d lines; %d tokens",
                   counts->num_answered, counts->num_bad, counts->num_skipped,
                   counts->num_lines, counts->num_output_tokens)
            << std::endl;
  return counts->num_bad == 0 ? 0 : 1;
}

// `model` is not read if there is a --target.
int Run(const Flags& flags, const v1::SamplingParams& sampling,
        const LLMOptions& model) {
  SignalEvents events(SignalEvents::Children::kIgnore);
  std::atomic<bool> stop = false;
  InterruptWatcher watcher(&events, [&](int signal) {
    // What is written is whole lines; nothing else is worth keeping.
    stop = true;
    std::cerr << "\nquire generate: stopped; the same command goes on from "
                 "here"
              << std::endl;
    _exit(128 + signal);
  });
  absl::StatusOr<std::unique_ptr<BatchOutput>> output =
      BatchOutput::Open(flags.output);
  if (!output.ok()) return Fail(std::string(output.status().message()), 1);
  RealClock clock;
  BatchOptions options;
  options.input = flags.input;
  options.sampling = sampling;
  options.sampling.clear_seed();
  options.seed = static_cast<uint64_t>(sampling.seed());
  Progress progress(
      "Generating", Progress::Unit::kCount,
      flags.progress ? ProgressStyleFor(STDERR_FILENO) : ProgressStyle::kNone,
      &std::cerr, &clock);
  if (!flags.target.empty()) {
    const auto channel = MakeChannel(flags.target);
    const absl::Status there = WaitForServer(channel.get(), flags.target,
                                             absl::Seconds(5), &std::cerr);
    if (!there.ok()) return Fail(DescribeStatus(there), 1);
    options.jobs = flags.jobs > 0 ? flags.jobs : kServerJobs;
    ServerRequests server(channel, flags.model, static_cast<int>(options.jobs));
    return Report(RunBatch(
        options,
        [&](const v1::GenerateRequest& request,
            std::function<void(LLMResult)> done) {
          server.Start(request, std::move(done));
        },
        output->get(), &progress, &stop));
  }
  LLM llm(model);
  if (!llm.status().ok()) {
    const bool is_usage = absl::IsOutOfRange(llm.status());
    return Fail(DescribeStatus(llm.status()), is_usage ? 2 : 1);
  }
  options.jobs = flags.jobs > 0 ? flags.jobs : llm.max_useful_requests();
  return Report(RunBatch(
      options,
      [&](const v1::GenerateRequest& request,
          std::function<void(LLMResult)> done) {
        llm.Start(request, std::move(done));
      },
      output->get(), &progress, &stop));
}

int Main(const std::vector<std::string>& args) {
  Flags flags;
  FlagSet set("quire generate --input=FILE --output=FILE [flags]",
              "Answers a file of prompts. Killed, or with lines corrected that "
              "were refused, the same command goes on.");
  AddFlags(&flags, &set);
  const auto positional = set.Parse(args);
  if (!positional.ok()) {
    return Fail(std::string(positional.status().message()), 2);
  }
  if (set.help_requested()) {
    std::cout << set.Help();
    return 0;
  }
  if (!positional->empty()) {
    return Fail("a prompt and --input exclude each other", 2);
  }
  if (flags.input.empty() || flags.output.empty()) {
    return Fail("--input and --output belong together; set both", 2);
  }
  if (flags.jobs < 0 || flags.jobs > kMaxJobs) {
    return Fail(
        absl::StrCat("--jobs=", flags.jobs, " is outside 0..", kMaxJobs), 2);
  }
  absl::StatusOr<LLMOptions> model = LLMOptions();
  if (flags.target.empty()) {
    model = ToOptions(flags);
    if (!model.ok()) return Fail(std::string(model.status().message()), 2);
  } else {  // a name; a folder has any bytes
    const absl::Status is_text = CheckText("--model", flags.model);
    if (!is_text.ok()) return Fail(std::string(is_text.message()), 2);
  }
  const auto sampling = ToSamplingParams(flags.sampling);
  if (!sampling.ok()) return Fail(std::string(sampling.status().message()), 2);
  // Before the output is made and a model is loaded.
  const absl::Status input = CheckBatchInput(flags.input);
  if (!input.ok()) return Fail(std::string(input.message()), 1);
  return Run(flags, *sampling, *model);
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  quire::EndLockOrderChecks();
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_WARNING;
  return quire::Main({argv + 1, argv + argc});
}
