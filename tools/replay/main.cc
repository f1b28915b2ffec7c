// SPDX-License-Identifier: Apache-2.0
//
// replay: decides a recording again and says whether every step is the same.

#include <cstdio>
#include <iostream>
#include <string>

#include "tools/cli/program.h"
#include "tools/replay/replayer.h"

namespace quire {
namespace {

constexpr char kUsage[] =
    "replay FILE\n\n"
    "FILE is what a coordinator wrote with --record=FILE. Exit status: 0 if "
    "every step\ncomes out as recorded, 1 if one does not or the file cannot "
    "be read, 2 for wrong\nusage.\n";

int Main(int argc, char** argv) {
  const std::string path = argc == 2 ? argv[1] : "";
  if (path == "--help" || path == "-h") {
    std::cout << kUsage;
    return 0;
  }
  if (path.empty() || path[0] == '-') {
    std::cerr << kUsage;
    return 2;
  }
  const auto report = Replay(path);
  if (!report.ok()) {
    std::cerr << "replay: " << report.status().message() << "\n";
    return 1;
  }
  if (!report->difference.empty()) {
    std::cout << report->difference;
    return 1;
  }
  std::printf(
      "%lld steps come out as recorded: %lld requests, %lld results, %.1f s\n",
      static_cast<long long>(report->num_plans),
      static_cast<long long>(report->num_requests),
      static_cast<long long>(report->num_results), report->recorded_s);
  if (report->cut_off) std::printf("the recording was cut off here\n");
  return 0;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  quire::BeginProgram(argv[0]);
  return quire::Main(argc, argv);
}
