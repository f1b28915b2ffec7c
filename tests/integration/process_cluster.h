// SPDX-License-Identifier: Apache-2.0
//
// A real cluster for a test: a coordinator and tensor-parallel CPU workers as
// separate processes, on ports that the kernel picks.
#ifndef TESTS_INTEGRATION_PROCESS_CLUSTER_H_
#define TESTS_INTEGRATION_PROCESS_CLUSTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/integration/process.h"

namespace quire {

struct ProcessClusterOptions {
  std::string model;  // a Hugging Face folder
  int tensor_parallel_size = 2;
  int data_parallel_size = 1;
  std::vector<std::string> coordinator_flags;
};

// Thread-compatible.
class ProcessCluster {
 public:
  // Returns when the cluster accepts requests.
  static absl::StatusOr<std::unique_ptr<ProcessCluster>> Start(
      const ProcessClusterOptions& options);

  const std::string& public_address() const { return public_address_; }
  const std::string& control_address() const { return control_address_; }
  Process& coordinator() { return *coordinator_; }
  Process& worker(int rank) { return *workers_[rank]; }
  // Starts a worker anew, for a place whose worker has ended.
  absl::Status Replace(int group, int rank);

  // Asks the server until no request runs or waits, then checks that every
  // block is free or cached.
  absl::Status CheckNoLeakedBlock() const;

  // SIGTERM to the coordinator; every process must then end by itself, the
  // coordinator with exit code 0.
  absl::Status Stop();

 private:
  ProcessCluster() = default;

  std::unique_ptr<Process> coordinator_;
  absl::StatusOr<std::unique_ptr<Process>> StartWorker(int group, int rank);

  ProcessClusterOptions options_;
  std::vector<std::unique_ptr<Process>> workers_;  // by group, then rank
  std::string public_address_;
  std::string control_address_;
};

}  // namespace quire

#endif  // TESTS_INTEGRATION_PROCESS_CLUSTER_H_
