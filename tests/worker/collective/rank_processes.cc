// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/collective/rank_processes.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tests/worker/collective/shared_board.h"

namespace quire {
namespace {

struct Child {
  pid_t pid = 0;
  int from = -1;  // -1: it is gone
  std::string said;
};

// In the child. Nothing of the parent's is destroyed.
[[noreturn]] void RunChild(int32_t rank, KeyBoard* board, int to_parent,
                           const RankProcess& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const absl::StatusOr<std::string> said = body(rank, board);
  if (!said.ok()) {
    std::fprintf(stderr, "rank %d: %s\n", rank,
                 said.status().ToString().c_str());
  }
  std::fflush(nullptr);
  size_t written = 0;
  while (said.ok() && written < said->size()) {
    const ssize_t n =
        write(to_parent, said->data() + written, said->size() - written);
    if (n < 0 && errno != EINTR) _exit(1);
    if (n > 0) written += n;
  }
  _exit(said.ok() ? 0 : 1);
}

Child StartChild(int32_t rank, KeyBoard* board, const RankProcess& body) {
  int ends[2];
  PCHECK(pipe(ends) == 0);
  std::fflush(nullptr);
  Child child;
  child.pid = fork();
  PCHECK(child.pid >= 0);
  if (child.pid == 0) {
    close(ends[0]);
    RunChild(rank, board, ends[1], body);
  }
  close(ends[1]);
  child.from = ends[0];
  return child;
}

// Reads what is there; at the end waits for the process, and says how it ended.
absl::Status Hear(int32_t rank, Child* child) {
  char buffer[4096];
  const ssize_t n = read(child->from, buffer, sizeof(buffer));
  if (n > 0) child->said.append(buffer, n);
  if (n > 0 || (n < 0 && errno == EINTR)) return absl::OkStatus();
  close(child->from);
  child->from = -1;
  int status = 0;
  PCHECK(waitpid(child->pid, &status, 0) == child->pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::InternalError(
      WIFSIGNALED(status)
          ? absl::StrCat("rank ", rank, " ended by signal ", WTERMSIG(status))
          : absl::StrCat("rank ", rank, " failed"));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> RunRankProcesses(
    int32_t world, const RankProcess& body) {
  SharedBoard board;
  std::vector<Child> children;
  for (int32_t rank = 0; rank < world; ++rank) {
    children.push_back(StartChild(rank, &board, body));
  }
  absl::Status failure;
  while (true) {
    std::vector<pollfd> fds;
    std::vector<int32_t> ranks;
    for (int32_t rank = 0; rank < world; ++rank) {
      if (children[rank].from < 0) continue;
      fds.push_back({children[rank].from, POLLIN, 0});
      ranks.push_back(rank);
    }
    if (fds.empty()) break;
    if (poll(fds.data(), fds.size(), /*timeout=*/-1) < 0) continue;
    for (size_t i = 0; i < fds.size(); ++i) {
      if (fds[i].revents == 0) continue;
      const absl::Status heard = Hear(ranks[i], &children[ranks[i]]);
      if (heard.ok() || !failure.ok()) continue;
      failure = heard;
      for (const Child& child : children) {
        if (child.from >= 0) kill(child.pid, SIGKILL);
      }
    }
  }
  if (!failure.ok()) return failure;
  std::vector<std::string> said;
  for (Child& child : children) said.push_back(std::move(child.said));
  return said;
}

}  // namespace quire
