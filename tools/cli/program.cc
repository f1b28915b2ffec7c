// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/program.h"

#include <glog/logging.h>
#include <unistd.h>

#include <cstdlib>

#include "common/lock_order.h"

namespace quire {

void BeginProgram(const char* program) {
  EndLockOrderChecks();
  google::InitGoogleLogging(program);
  FLAGS_logtostderr = true;
  // Errors are told in our words, which have the remedy.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  // `bazel run` starts programs elsewhere than where the user stands.
  if (const char* dir = std::getenv("BUILD_WORKING_DIRECTORY")) {
    PLOG_IF(WARNING, chdir(dir) != 0) << dir;
  }
}

}  // namespace quire
