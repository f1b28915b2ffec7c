// SPDX-License-Identifier: Apache-2.0
//
// What `quire serve` was asked for, as command lines for its children.
#ifndef TOOLS_QUIRE_SERVE_FLAGS_H_
#define TOOLS_QUIRE_SERVE_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/cli/flag_set.h"
#include "tools/quire/launcher.h"

namespace quire {

struct ServeFlags {
  std::string model;
  int64_t tensor_parallel_size = 1;
  int64_t data_parallel_size = 1;
  std::string on_group_lost = "exit";
  std::string device = "cpu";
  int64_t num_threads = 0;  // of each worker; 0: its share of the cores
  // Of workers on cuda; see their own flags.
  bool deterministic = false;
  std::string gemm_cache;
  std::string device_wait = "spin";
  std::string coordinator_binary;
  std::string worker_binary;
  std::string log_dir;
  std::string ready_file;
  bool verbose = false;
  double grace_s = 100;  // the coordinator drains for 90
  // The coordinator's own flags, passed on unread.
  std::vector<std::string> coordinator_flags;
};

// Borrows `serve` for the life of `flags`.
void AddServeFlags(ServeFlags* serve, FlagSet* flags);

// The children's programs and flags. `launcher` is the running program's path.
// InvalidArgument and NotFound are one line for the user. log_dir is the
// caller's to settle.
absl::StatusOr<LauncherOptions> ToLauncherOptions(const ServeFlags& serve,
                                                  const std::string& launcher,
                                                  int64_t num_cores);

}  // namespace quire

#endif  // TOOLS_QUIRE_SERVE_FLAGS_H_
