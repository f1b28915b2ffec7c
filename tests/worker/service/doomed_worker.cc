// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/service/doomed_worker.h"

#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "glog/logging.h"

ABSL_FLAG(std::string, coordinator, "", "host:port");

namespace quire {

void BeginDoomedWorker(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  absl::ParseCommandLine(argc, argv);
  BlockWorkerSignals();
}

int RunDoomedWorker(WorkerProcessOptions options, const ProcessLoader& loader,
                    GroupEnd* group_end) {
  options.link.coordinator = absl::GetFlag(FLAGS_coordinator);
  options.link.instance_id = 1;
  const absl::StatusOr<int> exit_status = RunWorker(options, loader, group_end);
  CHECK(exit_status.ok()) << exit_status.status();
  return *exit_status;
}

}  // namespace quire
