// SPDX-License-Identifier: Apache-2.0
//
// One tensor-parallel rank: joins a coordinator and obeys it until told to go.
// Exit status: 0 after SIGTERM or SIGINT, 1 when the coordinator, the group or
// the device is lost or something failed, 2 for a wrong command line.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <random>
#include <string>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/flags/parse_flags.h"
#include "common/listen_host.h"
#include "common/lock_order.h"
#include "glog/logging.h"
#include "worker/collective/group_end.h"
#include "worker/collective/nccl.h"
#include "worker/executor/load_executor.h"
#include "worker/service/cluster_link.h"
#include "worker/service/worker_process.h"

ABSL_FLAG(std::string, coordinator, "127.0.0.1:9000",
          "The coordinator's control port, host:port.");
ABSL_FLAG(std::string, host, "127.0.0.1",
          "Address of this machine that the coordinator and the other ranks "
          "reach; also the one listened on.");
ABSL_FLAG(int32_t, port, 0, "gRPC port to listen on; 0 takes a free one.");
ABSL_FLAG(int32_t, group, -1,
          "The replica group wanted; -1: the first that has room.");
ABSL_FLAG(int32_t, rank, -1, "The rank wanted; -1: any that is free.");
ABSL_FLAG(
    std::string, device, "cpu",
    "What computes: cpu, cuda (of the machine's GPUs the one that is this "
    "rank's), or cuda:N.");
ABSL_FLAG(bool, deterministic, false,
          "On cuda: a token never depends on its batch, as on cpu; slower.");
ABSL_FLAG(std::string, gemm_cache, "",
          "On cuda: a file to keep the fastest matrix products in.");
ABSL_FLAG(
    bool, enforce_eager, false,
    "On cuda: launch decodes kernel by kernel instead of as CUDA graphs.");
ABSL_FLAG(bool, device_sampling, true,
          "On cuda: choose tokens of requests with penalties, filters or log "
          "probabilities on the GPU, and run ahead of them; groups with "
          "--record_groups.");
ABSL_FLAG(bool, measure_idleness, false,
          "On cuda: log how long the GPU had nothing to do between steps.");
ABSL_FLAG(std::string, device_wait, "spin",
          "On cuda: how threads wait for steps: spin, a core while steps run, "
          "or sleep, naps for a part of a core that end some 50 us late.");
ABSL_FLAG(
    bool, record_groups, true,
    "On cuda: groups launch decodes as CUDA graphs and choose tokens on their "
    "GPUs, as one rank alone does; without it their hosts choose, step by "
    "step.");
ABSL_FLAG(
    int32_t, num_threads, 0,
    "Threads that compute; 0 shares the machine's cores among its ranks.");
ABSL_FLAG(
    std::string, collective, "auto",
    "How ranks talk to each other: gloo (TCP), shm (shared memory of one "
    "machine), nccl (between GPUs), peer (between GPUs that reach each "
    "other's memory), or auto: on cuda peer where it is possible, with nccl "
    "beside it; else shm where it is possible.");
ABSL_FLAG(absl::Duration, join_timeout, absl::Seconds(60),
          "For the coordinator to answer, and for the other ranks to join.");
ABSL_FLAG(absl::Duration, collective_timeout, absl::Seconds(60),
          "For a rank that lives but takes no part in an operation.");
ABSL_FLAG(bool, exit_with_parent, false,
          "End when the process that started this one ends.");

namespace quire {
namespace {

constexpr char kVersion[] = "0.1.0";

absl::Status CheckFlags() {
  const auto check = [](const char* flag, auto value, bool is_fit,
                        const char* range) {
    if (is_fit) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, "=", value, ": it may be ", range));
  };
  const int32_t port = absl::GetFlag(FLAGS_port);
  const int32_t group = absl::GetFlag(FLAGS_group);
  const int32_t rank = absl::GetFlag(FLAGS_rank);
  const absl::Duration join = absl::GetFlag(FLAGS_join_timeout);
  const absl::Duration collective = absl::GetFlag(FLAGS_collective_timeout);
  const std::string coordinator = absl::GetFlag(FLAGS_coordinator);
  absl::Status status =
      check("port", port, port >= 0 && port <= 65535, "0 to 65535");
  status.Update(check("group", group, group >= -1, "-1 for any, or 0 or more"));
  status.Update(check("rank", rank, rank >= -1, "-1 for any, or 0 or more"));
  status.Update(check("join_timeout", absl::FormatDuration(join),
                      join > absl::ZeroDuration(), "above 0, such as 60s"));
  status.Update(check("collective_timeout", absl::FormatDuration(collective),
                      collective > absl::ZeroDuration(),
                      "above 0, such as 60s"));
  status.Update(check("coordinator", coordinator,
                      coordinator.find(':') != std::string::npos,
                      "host:port, the coordinator's control port"));
  return status;
}

DeviceOptions DeviceFromFlags() {
  DeviceOptions device;
  device.device = absl::GetFlag(FLAGS_device);
  device.num_threads = absl::GetFlag(FLAGS_num_threads);
  device.deterministic = absl::GetFlag(FLAGS_deterministic);
  device.gemm_cache = absl::GetFlag(FLAGS_gemm_cache);
  device.enforce_eager = absl::GetFlag(FLAGS_enforce_eager);
  device.device_sampling = absl::GetFlag(FLAGS_device_sampling);
  device.measures_idleness = absl::GetFlag(FLAGS_measure_idleness);
  device.device_wait = absl::GetFlag(FLAGS_device_wait);
  device.record_groups = absl::GetFlag(FLAGS_record_groups);
  device.collective = absl::GetFlag(FLAGS_collective);
  device.host = absl::GetFlag(FLAGS_host);
  device.connect_timeout = absl::GetFlag(FLAGS_join_timeout);
  device.operation_timeout = absl::GetFlag(FLAGS_collective_timeout);
  return device;
}

ClusterLinkOptions LinkFromFlags() {
  ClusterLinkOptions options;
  options.coordinator = absl::GetFlag(FLAGS_coordinator);
  std::random_device random;
  options.instance_id = uint64_t{random()} << 32 | random();
  options.device = DeviceKind(DeviceFromFlags());
  if (const int32_t group = absl::GetFlag(FLAGS_group); group >= 0) {
    options.group = group;
  }
  if (const int32_t rank = absl::GetFlag(FLAGS_rank); rank >= 0) {
    options.rank = rank;
  }
  options.version = kVersion;
  options.join_timeout = absl::GetFlag(FLAGS_join_timeout);
  return options;
}

WorkerProcessOptions ProcessFromFlags() {
  WorkerProcessOptions options;
  options.host = absl::GetFlag(FLAGS_host);
  options.port = absl::GetFlag(FLAGS_port);
  options.link = LinkFromFlags();
  return options;
}

int Main(int argc, char** argv) {
  EndLockOrderChecks();
  const pid_t parent = getppid();
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  const auto rest = ParseFlags(argc, argv);
  absl::Status usage = rest.status();
  if (usage.ok() && !rest->empty()) {
    usage = absl::InvalidArgumentError(
        absl::StrCat("unexpected argument \"", rest->front(), "\""));
  }
  if (usage.ok()) usage = CheckFlags();
  if (usage.ok()) usage = CheckDeviceOptions(DeviceFromFlags());
  if (usage.ok()) usage = CheckListenHost(absl::GetFlag(FLAGS_host));
  if (!usage.ok()) {
    std::fprintf(stderr, "quire_worker: %s\n",
                 std::string(usage.message()).c_str());
    return 2;
  }
  if (absl::GetFlag(FLAGS_exit_with_parent)) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) return 0;  // it ended before that took effect
  }
  if (DeviceKind(DeviceFromFlags()) == "cuda") {
    PrepareNcclEnvironment(absl::GetFlag(FLAGS_host));
  }
  BlockWorkerSignals();
  GroupEnd group_end;
  DeviceOptions device = DeviceFromFlags();
  device.group_end = &group_end;
  const absl::StatusOr<int> exit_status = RunWorker(
      ProcessFromFlags(),
      [&device](const LoadSpec& spec, const LoadObserver& observer,
                KeyBoard* board, const Clock* clock) {
        return LoadExecutor(device, spec, board, clock, observer);
      },
      &group_end);
  if (!exit_status.ok()) {
    std::fprintf(stderr, "quire_worker: %s\n",
                 std::string(exit_status.status().message()).c_str());
    return 1;
  }
  return *exit_status;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) { return quire::Main(argc, argv); }
