// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/process_cluster.h"

#include <grpcpp/grpcpp.h>
#include <signal.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "proto/inference.grpc.pb.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

// Long enough for sanitizer builds on a loaded machine; success is quick.
constexpr absl::Duration kStartTimeout = absl::Seconds(120);
constexpr absl::Duration kStopTimeout = absl::Seconds(120);

// The value of `key` in "QUIRE_LISTENING public=... control=...".
std::string Field(const std::string& line, const std::string& key) {
  for (absl::string_view word : absl::StrSplit(line, ' ')) {
    if (absl::ConsumePrefix(&word, absl::StrCat(key, "="))) {
      return std::string(word);
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProcessCluster>> ProcessCluster::Start(
    const ProcessClusterOptions& options) {
  std::unique_ptr<ProcessCluster> cluster(new ProcessCluster);
  cluster->options_ = options;
  std::vector<std::string> argv = {
      Runfile("coordinator/quire_coordinator"),
      absl::StrCat("--model=", options.model),
      absl::StrCat("--tensor_parallel_size=", options.tensor_parallel_size),
      absl::StrCat("--data_parallel_size=", options.data_parallel_size),
      "--host=127.0.0.1",
      "--port=0",
      "--control_port=0",
      "--metrics_port=0",
      // What is free of a machine that compiles beside this may be next to
      // nothing, and a step may wait for a processor longer than for a lost
      // worker. What a test says of either comes after, and counts.
      "--num_gpu_blocks_override=400",
      "--memory_utilization=1",
      "--step_timeout=100",
  };
  argv.insert(argv.end(), options.coordinator_flags.begin(),
              options.coordinator_flags.end());
  QUIRE_ASSIGN_OR_RETURN(cluster->coordinator_,
                         Process::Start(argv, TempPath("coordinator.log")));
  QUIRE_ASSIGN_OR_RETURN(
      const std::string listening,
      cluster->coordinator_->ReadLine("QUIRE_LISTENING", kStartTimeout));
  cluster->public_address_ = Field(listening, "public");
  cluster->control_address_ = Field(listening, "control");
  for (int group = 0; group < options.data_parallel_size; ++group) {
    for (int rank = 0; rank < options.tensor_parallel_size; ++rank) {
      QUIRE_ASSIGN_OR_RETURN(std::unique_ptr<Process> worker,
                             cluster->StartWorker(group, rank));
      cluster->workers_.push_back(std::move(worker));
    }
  }
  QUIRE_RETURN_IF_ERROR(
      cluster->coordinator_->ReadLine("QUIRE_READY", kStartTimeout).status());
  return cluster;
}

absl::StatusOr<std::unique_ptr<Process>> ProcessCluster::StartWorker(int group,
                                                                     int rank) {
  const int number = group * options_.tensor_parallel_size + rank;
  return Process::Start(
      {Runfile("worker/quire_worker"),
       absl::StrCat("--coordinator=", control_address_),
       absl::StrCat("--group=", group), absl::StrCat("--rank=", rank),
       "--device=cpu", "--num_threads=1", "--port=0"},
      TempPath(absl::StrCat("worker", number, ".log")));
}

absl::Status ProcessCluster::Replace(int group, int rank) {
  QUIRE_ASSIGN_OR_RETURN(workers_[group * options_.tensor_parallel_size + rank],
                         StartWorker(group, rank));
  return absl::OkStatus();
}

absl::Status ProcessCluster::CheckNoLeakedBlock() const {
  const auto stub = v1::Inference::NewStub(
      grpc::CreateChannel(public_address_, grpc::InsecureChannelCredentials()));
  const absl::Time deadline = absl::Now() + kStopTimeout;
  while (true) {
    grpc::ClientContext context;
    v1::GetServerInfoResponse info;
    const grpc::Status status = stub->GetServerInfo(&context, {}, &info);
    if (!status.ok()) return absl::UnavailableError(status.error_message());
    const bool idle =
        info.num_running_requests() == 0 && info.num_waiting_requests() == 0;
    const bool whole =
        info.num_free_blocks() + info.num_cached_blocks() == info.num_blocks();
    if (idle && whole && info.num_blocks() > 0) return absl::OkStatus();
    if (absl::Now() > deadline) {
      return absl::InternalError(absl::StrCat(
          info.num_running_requests(), " running, ",
          info.num_waiting_requests(),
          " waiting, blocks: ", info.num_free_blocks(), " free + ",
          info.num_cached_blocks(), " cached of ", info.num_blocks()));
    }
  }
}

absl::Status ProcessCluster::Stop() {
  coordinator_->Signal(SIGTERM);
  QUIRE_ASSIGN_OR_RETURN(const int code, coordinator_->Wait(kStopTimeout));
  if (code != 0) {
    return absl::InternalError(absl::StrCat("coordinator exited with ", code,
                                            ": ", coordinator_->Stderr()));
  }
  for (const std::unique_ptr<Process>& worker : workers_) {
    QUIRE_RETURN_IF_ERROR(worker->Wait(kStopTimeout).status());
  }
  return absl::OkStatus();
}

}  // namespace quire
