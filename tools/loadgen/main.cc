// SPDX-License-Identifier: Apache-2.0
//
// loadgen: many requests to one server, and what became of them.
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <string>
#include <vector>

#include "common/clock.h"
#include "tools/cli/flag_set.h"
#include "tools/cli/program.h"
#include "tools/cli/progress.h"
#include "tools/cli/rpc.h"
#include "tools/cli/signals.h"
#include "tools/loadgen/benchmark.h"
#include "tools/loadgen/options.h"

namespace quire {
namespace {

int Fail(int exit_code, const std::string& message) {
  std::cerr << "loadgen: " << message << "\n";
  return exit_code;
}

int Run(const LoadgenOptions& options) {
  SignalEvents events(SignalEvents::Children::kIgnore);
  RealClock clock;
  Benchmark benchmark(options, ProgressStyleFor(STDERR_FILENO), &std::cout,
                      &std::cerr, &clock);
  std::atomic<int> interrupted = 0;
  absl::Status status;
  {
    InterruptWatcher watcher(&events, [&](int signal) {
      if (interrupted.exchange(signal) != 0) _exit(128 + signal);
      benchmark.Interrupt();
    });
    status = benchmark.Run();
  }
  if (interrupted != 0) return Fail(128 + interrupted, "interrupted");
  if (absl::IsInvalidArgument(status)) {
    return Fail(2, std::string(status.message()));
  }
  if (!status.ok()) return Fail(1, DescribeStatus(status));
  return 0;
}

int Main(const std::vector<std::string>& args) {
  LoadgenFlags loadgen;
  FlagSet flags("loadgen --target=localhost:8001 [flags]",
                "Sends requests to a server and measures how it serves them. "
                "Exit status: 0 if all\nwere completed, 1 if any failed or a "
                "check did not hold, 2 for wrong usage.");
  AddLoadgenFlags(&loadgen, &flags);
  const auto positional = flags.Parse(args);
  if (!positional.ok()) {
    return Fail(2, std::string(positional.status().message()));
  }
  if (flags.help_requested()) {
    std::cout << flags.Help();
    return 0;
  }
  if (!positional->empty()) {
    return Fail(2, "unexpected argument " + positional->front());
  }
  const auto options = ToLoadgenOptions(loadgen, flags);
  if (!options.ok()) return Fail(2, std::string(options.status().message()));
  return Run(*options);
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  quire::BeginProgram(argv[0]);
  return quire::Main({argv + 1, argv + argc});
}
