// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/server_process.h"

#include <poll.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace quire {
namespace {

namespace fs = std::filesystem;

// How long to wait for a word of the server before looking again: its ready
// file comes without one.
constexpr int kListenMs = 20;

constexpr char kPublic[] = "public=";

}  // namespace

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Start(
    const std::string& quire, const std::vector<std::string>& flags,
    const std::string& folder) {
  const fs::path out(folder);
  const std::string ready_file = (out / "ready").string();
  std::error_code ignored;
  fs::remove(ready_file, ignored);
  ChildProcess::Options options;
  options.name = "quire serve";
  options.argv = {quire,
                  "serve",
                  "--host=127.0.0.1",
                  "--port=0",
                  "--control_port=0",
                  "--metrics_port=0",
                  "--ready_file=" + ready_file,
                  "--log_dir=" + folder};
  options.argv.insert(options.argv.end(), flags.begin(), flags.end());
  options.log_path = (out / "serve.log").string();
  QUIRE_ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> child,
                         ChildProcess::Start(std::move(options)));
  std::unique_ptr<ServerProcess> server(
      new ServerProcess(std::move(child), ready_file));
  QUIRE_RETURN_IF_ERROR(server->AwaitReady());
  return server;
}

absl::Status ServerProcess::AwaitReady() {
  while (true) {
    std::ifstream file(ready_file_);
    std::string line;
    while (std::getline(file, line)) {
      if (!absl::StartsWith(line, kPublic)) continue;
      address_ = line.substr(sizeof(kPublic) - 1);
      return absl::OkStatus();
    }
    Listen();
    if (child_->Reap()) return DescribeEnd();
  }
}

void ServerProcess::Listen() {
  pollfd fds[] = {{child_->stdout_fd(), POLLIN, 0},
                  {child_->stderr_fd(), POLLIN, 0}};
  poll(fds, 2, kListenMs);
  child_->ReadOutput();
}

absl::Status ServerProcess::DescribeEnd() const {
  return absl::UnavailableError(
      absl::StrCat("quire serve ", child_->DescribeExit(), ":\n",
                   absl::StrJoin(child_->stderr_tail(), "\n")));
}

absl::Status ServerProcess::Stop() {
  child_->Signal(SIGTERM);
  while (!child_->Reap()) Listen();
  return child_->exit_code() == 0 ? absl::OkStatus() : DescribeEnd();
}

}  // namespace quire
