// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/serve_flags.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/device_wait.h"
#include "tools/quire/binaries.h"

namespace quire {
namespace {

constexpr int64_t kMaxRanks = 64;

absl::Status Check(const ServeFlags& serve) {
  if (serve.tensor_parallel_size < 1 ||
      serve.tensor_parallel_size > kMaxRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("--tensor_parallel_size=", serve.tensor_parallel_size,
                     " is outside 1..", kMaxRanks));
  }
  if (serve.data_parallel_size < 1 ||
      serve.data_parallel_size > kMaxRanks / serve.tensor_parallel_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("--data_parallel_size=", serve.data_parallel_size,
                     " groups of ", serve.tensor_parallel_size,
                     " ranks are not 1..", kMaxRanks, " workers"));
  }
  if (serve.device != "cpu" && serve.device != "cuda") {
    return absl::InvalidArgumentError(
        absl::StrCat("--device=", serve.device, " is neither cpu nor cuda"));
  }
  if (serve.device == "cpu" && !serve.gemm_cache.empty()) {
    return absl::InvalidArgumentError(
        "--gemm_cache is for --device=cuda alone");
  }
  QUIRE_ASSIGN_OR_RETURN(const DeviceWait wait,
                         ParseDeviceWait(serve.device_wait));
  if (serve.device == "cpu" && wait != DeviceWait::kSpin) {
    return absl::InvalidArgumentError(
        "--device_wait is for --device=cuda alone");
  }
  if (serve.num_threads < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--num_threads=", serve.num_threads, " is negative"));
  }
  // The server would be ready first.
  const auto folder = std::filesystem::path(serve.ready_file).parent_path();
  std::error_code error;
  if (!folder.empty() && !std::filesystem::is_directory(folder, error)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--ready_file=", serve.ready_file,
        " is in a folder that is not there; create ", folder.string()));
  }
  return absl::OkStatus();
}

}  // namespace

void AddServeFlags(ServeFlags* serve, FlagSet* flags) {
  flags->Add("model", &serve->model,
             "a Hugging Face model folder; without it, the demo model");
  flags->Add("tensor_parallel_size", &serve->tensor_parallel_size,
             "ranks that share the model, one worker process each");
  flags->Add("data_parallel_size", &serve->data_parallel_size,
             "groups of so many ranks, each with the whole model");
  flags->Add("on_group_lost", &serve->on_group_lost,
             "exit, or reform: start workers that ended again and go on");
  flags->Add("device", &serve->device, "cpu or cuda");
  flags->Add("num_threads", &serve->num_threads,
             "threads of each CPU worker; 0: an equal share of the cores");
  flags->Add("deterministic", &serve->deterministic,
             "on cuda: a token never depends on its batch, as on cpu; slower");
  flags->Add("gemm_cache", &serve->gemm_cache,
             "on cuda: a file to keep the fastest matrix products in");
  flags->Add("device_wait", &serve->device_wait,
             "on cuda: how ranks wait for steps: spin, a core while steps run, "
             "or sleep, naps for a part of a core that end some 50 us late");
  flags->Add("coordinator_binary", &serve->coordinator_binary,
             "the coordinator's program; empty: the one built beside quire");
  flags->Add("worker_binary", &serve->worker_binary,
             "the worker's program; empty: the one built beside quire");
  flags->Add(
      "log_dir", &serve->log_dir,
      "keep the children's logs here, each of 10 MiB and as much that is "
      "older; empty: a temporary folder, kept only after a failure");
  flags->Add("ready_file", &serve->ready_file,
             "when ready, write the addresses here as public=, control= and "
             "metrics= lines");
  flags->Add("verbose", &serve->verbose,
             "show the children's logs on standard error");
  flags->AddSeconds(
      "grace_s", &serve->grace_s,
      "seconds to let the coordinator, which drains, and then the "
      "workers end before they are killed; what still runs after nine tenths "
      "is ended with a reason");
  flags->PassUnknownTo(&serve->coordinator_flags);
}

absl::StatusOr<LauncherOptions> ToLauncherOptions(const ServeFlags& serve,
                                                  const std::string& launcher,
                                                  int64_t num_cores) {
  QUIRE_RETURN_IF_ERROR(Check(serve));
  LauncherOptions options;
  options.coordinator_binary = serve.coordinator_binary;
  if (options.coordinator_binary.empty()) {
    QUIRE_ASSIGN_OR_RETURN(
        options.coordinator_binary,
        FindBinary(launcher, "coordinator", "quire_coordinator"));
  }
  options.worker_binary = serve.worker_binary;
  if (options.worker_binary.empty()) {
    QUIRE_ASSIGN_OR_RETURN(options.worker_binary,
                           FindBinary(launcher, "worker", "quire_worker"));
  }
  std::string model = serve.model;
  const bool is_demo = model.empty();
  if (is_demo) {
    QUIRE_ASSIGN_OR_RETURN(model, FindDemoModel(launcher));
  }
  // Workers may look from another folder.
  std::error_code error;
  const std::filesystem::path absolute =
      std::filesystem::absolute(model, error);
  if (!error) model = absolute.string();

  options.num_workers = serve.tensor_parallel_size;
  options.num_groups = serve.data_parallel_size;
  options.numbers_gpus = serve.device == "cuda";
  options.restarts_workers = serve.on_group_lost == "reform";
  options.coordinator_flags = {
      absl::StrCat("--model=", model),
      absl::StrCat("--tensor_parallel_size=", serve.tensor_parallel_size),
  };
  if (serve.data_parallel_size > 1) {
    options.coordinator_flags.push_back(
        absl::StrCat("--data_parallel_size=", serve.data_parallel_size));
  }
  if (serve.on_group_lost != "exit") {
    options.coordinator_flags.push_back(
        absl::StrCat("--on_group_lost=", serve.on_group_lost));
  }
  // Its folder's name would tell nobody anything. A flag of the user's wins.
  if (is_demo) {
    options.coordinator_flags.push_back("--served_model_name=quire-demo");
  }
  options.coordinator_flags.insert(options.coordinator_flags.end(),
                                   serve.coordinator_flags.begin(),
                                   serve.coordinator_flags.end());
  options.worker_flags = {absl::StrCat("--device=", serve.device), "--port=0"};
  if (serve.device == "cpu") {
    const int64_t share = std::max<int64_t>(
        1, num_cores / (serve.tensor_parallel_size * serve.data_parallel_size));
    options.worker_flags.push_back(absl::StrCat(
        "--num_threads=", serve.num_threads > 0 ? serve.num_threads : share));
  } else {
    if (serve.deterministic) {
      options.worker_flags.push_back("--deterministic");
    }
    if (!serve.gemm_cache.empty()) {
      options.worker_flags.push_back(
          absl::StrCat("--gemm_cache=", serve.gemm_cache));
    }
    if (serve.device_wait != "spin") {
      options.worker_flags.push_back(
          absl::StrCat("--device_wait=", serve.device_wait));
    }
  }
  options.verbose = serve.verbose;
  options.ready_file = serve.ready_file;
  options.grace = absl::Seconds(serve.grace_s);
  return options;
}

}  // namespace quire
