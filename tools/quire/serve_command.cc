// SPDX-License-Identifier: Apache-2.0
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <string>
#include <system_error>
#include <vector>

#include "common/clock.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/progress.h"
#include "tools/cli/signals.h"
#include "tools/quire/binaries.h"
#include "tools/quire/commands.h"
#include "tools/quire/launcher.h"
#include "tools/quire/serve_flags.h"
#include "tools/quire/thread_waits.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

// Cores that this process may run on.
int64_t NumCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return CPU_COUNT(&set);
}

int Fail(int status, const std::string& message) {
  std::cerr << "quire serve: " << message << "\n";
  return status;
}

// Creates `*log_dir`, or a temporary folder if it is empty. Whether it could.
bool MakeLogDir(std::string* log_dir) {
  std::error_code error;
  if (!log_dir->empty()) {
    fs::create_directories(*log_dir, error);
    return !error;
  }
  *log_dir = (fs::temp_directory_path(error) / "quire-XXXXXX").string();
  return !error && mkdtemp(log_dir->data()) != nullptr;
}

}  // namespace

int ServeCommand(const std::vector<std::string>& args) {
  ServeFlags serve;
  FlagSet flags(
      "quire serve --model=DIR [flags] [any flag of quire_coordinator]",
      "Starts a coordinator and its workers on this machine.");
  AddServeFlags(&serve, &flags);
  absl::Status parsed = flags.ReadEnvironment();
  if (parsed.ok()) {
    const auto positional = flags.Parse(args);
    parsed = positional.status();
    if (parsed.ok() && !positional->empty()) {
      parsed = absl::InvalidArgumentError("unexpected argument " +
                                          positional->front());
    }
  }
  if (!parsed.ok()) return Fail(2, std::string(parsed.message()));
  if (flags.help_requested()) {
    std::cout << flags.Help();
    return 0;
  }
  auto options = ToLauncherOptions(serve, OwnPath(), NumCores());
  if (!options.ok()) {
    const bool is_usage = absl::IsInvalidArgument(options.status());
    return Fail(is_usage ? 2 : 1, std::string(options.status().message()));
  }
  options->progress_style = ProgressStyleFor(STDERR_FILENO);
  options->log_dir = serve.log_dir;
  if (!MakeLogDir(&options->log_dir)) {
    return Fail(1, "cannot create the log folder " + options->log_dir +
                       "; name another with --log_dir");
  }
  LimitThreadSpins();
  SignalEvents events(SignalEvents::Children::kReport);
  RealClock clock;
  int result;
  {
    Launcher launcher(*options, &events, &std::cerr, &clock);
    result = launcher.Run();
  }
  std::error_code ignored;
  if (result == 0 && serve.log_dir.empty()) {
    fs::remove_all(options->log_dir, ignored);
  }
  if (!serve.ready_file.empty()) fs::remove(serve.ready_file, ignored);
  return result;
}

}  // namespace quire
