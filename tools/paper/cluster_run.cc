// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/cluster_run.h"

#include <filesystem>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "tools/loadgen/client.h"
#include "tools/loadgen/runner.h"
#include "tools/loadgen/server.h"
#include "tools/paper/recorded_run.h"
#include "tools/paper/server_process.h"

namespace quire {
namespace {

constexpr int64_t kNumChannels = 8;
constexpr absl::Duration kConnectTimeout = absl::Seconds(5);
constexpr absl::Duration kReadyTimeout = absl::Seconds(60);
// For the last request to be sent before everything is given up.
constexpr absl::Duration kLastMoment = absl::Milliseconds(100);

v1::GenerateRequest MakeRequest(const SimulatedRequest& request, int64_t idx,
                                int64_t vocab_size, bool prefix_cache) {
  v1::GenerateRequest message;
  message.set_request_id(absl::StrCat(idx));
  for (TokenId token : MakePrompt(request, idx, vocab_size)) {
    message.mutable_token_ids()->add_ids(token);
  }
  message.set_use_prefix_cache(prefix_cache);
  v1::SamplingParams* sampling = message.mutable_sampling();
  sampling->set_max_tokens(request.output_len);
  sampling->set_ignore_eos(true);
  sampling->set_seed(idx);
  if (request.beam_width > 0) {
    sampling->set_beam_width(request.beam_width);
    sampling->set_n(request.beam_width);
  } else if (request.num_sequences > 1) {
    sampling->set_n(request.num_sequences);
  }
  return message;
}

std::vector<PlannedCall> PlanCalls(
    const SimulationOptions& options,
    const std::vector<SimulatedRequest>& requests, int64_t vocab_size) {
  std::vector<PlannedCall> calls(requests.size());
  for (size_t idx = 0; idx < requests.size(); ++idx) {
    calls[idx].arrival = absl::Nanoseconds(requests[idx].arrival_ns);
    calls[idx].call.idx = static_cast<int64_t>(idx);
    calls[idx].call.request =
        MakeRequest(requests[idx], idx, vocab_size, options.prefix_cache);
  }
  return calls;
}

// Sends all requests. Gives up what is not done when the last one has arrived,
// if the options say so.
absl::Status Send(const std::string& address, const SimulationOptions& options,
                  std::vector<PlannedCall> calls) {
  RealClock clock;
  LoadClient client(address, kNumChannels, &clock);
  client.Connect(kConnectTimeout);
  LoadRunner runner(&client, &clock, nullptr);
  const absl::Duration last_arrival = calls.back().arrival;
  absl::Notification done;
  std::thread stopper([&] {
    if (!options.stop_at_last_arrival) return;
    if (done.WaitForNotificationWithTimeout(last_arrival + kLastMoment)) return;
    runner.Interrupt();
  });
  const RunResult run = runner.Run(std::move(calls), /*max_concurrency=*/0);
  done.Notify();
  stopper.join();
  for (const RequestRecord& record : run.records) {
    if (record.outcome != RequestOutcome::kFailed || run.is_interrupted) {
      continue;
    }
    return absl::AbortedError(
        absl::StrCat("request ", record.idx, " failed: ", record.error));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> ServeFlagsFor(const SimulationOptions& options) {
  const EngineOptions& engine = options.engine;
  const int32_t num_blocks = options.num_blocks > 0
                                 ? options.num_blocks
                                 : NumBlocks(options.cost, engine.block_size);
  // Host memory is for those that swap.
  const bool swaps = engine.preemption_mode != PreemptionMode::kRecompute;
  const double swap_bytes = swaps ? static_cast<double>(NumHostBlocks(
                                        options.cost, engine.block_size)) *
                                        engine.block_size *
                                        options.cost.kv_bytes_per_token
                                  : 0;
  return {
      absl::StrCat("--max_num_seqs=", engine.max_num_seqs),
      absl::StrCat("--max_num_batched_tokens=", engine.max_num_batched_tokens),
      absl::StrCat("--max_model_len=", engine.max_model_len),
      absl::StrCat("--block_size=", engine.block_size),
      absl::StrCat("--kv_manager=", engine.kv_manager),
      absl::StrCat("--scheduling_policy=", engine.scheduling_policy),
      absl::StrCat("--run_ahead_depth=", engine.run_ahead_depth),
      absl::StrCat("--preemption_mode=",
                   PreemptionModeName(engine.preemption_mode)),
      absl::StrCat("--swap_space=", swap_bytes / (1 << 30)),
      absl::StrCat("--num_gpu_blocks_override=", num_blocks),
      absl::StrCat("--enable_prefix_caching=", options.prefix_cache),
      absl::StrCat("--max_queued_requests=", engine.max_queued_requests),
      absl::StrCat("--max_queued_tokens=", engine.max_queued_tokens)};
}

absl::StatusOr<SimulationResult> RunOnCluster(
    const ClusterOptions& cluster, const SimulationOptions& options,
    const std::vector<SimulatedRequest>& requests) {
  if (requests.empty()) return absl::InvalidArgumentError("no requests");
  const std::string recording =
      (std::filesystem::path(cluster.folder) / "run.quire").string();
  std::vector<std::string> flags = ServeFlagsFor(options);
  flags.push_back("--model=" + cluster.model);
  flags.push_back("--device=" + cluster.device);
  flags.push_back(
      absl::StrCat("--tensor_parallel_size=", cluster.tensor_parallel_size));
  flags.push_back("--load_format=dummy");
  // Token ids go in and come out.
  flags.push_back("--skip_tokenizer_init");
  flags.push_back("--record=" + recording);
  QUIRE_ASSIGN_OR_RETURN(
      std::unique_ptr<ServerProcess> server,
      ServerProcess::Start(cluster.quire, flags, cluster.folder));
  RealClock clock;
  LoadTarget target(server->address(), &clock);
  QUIRE_RETURN_IF_ERROR(target.AwaitReady(kReadyTimeout));
  QUIRE_ASSIGN_OR_RETURN(const v1::Model model, target.FindModel(""));
  QUIRE_RETURN_IF_ERROR(Send(server->address(), options,
                             PlanCalls(options, requests, model.vocab_size())));
  QUIRE_RETURN_IF_ERROR(server->Stop());
  return MeasureRecording(recording, options, requests);
}

}  // namespace quire
