// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/failure_report.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "tools/quire/last_words.h"

namespace quire {
namespace {

constexpr size_t kReportedLines = 10;

std::vector<const ChildProcess*> FailedOf(
    absl::Span<const std::unique_ptr<ChildProcess>> children) {
  std::vector<const ChildProcess*> failed;
  for (const auto& child : children) {
    if (!child->has_exited()) continue;
    // The coordinator's end says more.
    if (children.front()->has_exited() && FollowsCoordinator(*child)) continue;
    failed.push_back(child.get());
  }
  return failed;
}

void QuoteTail(const ChildProcess& child, std::ostream* err) {
  const auto& tail = child.stderr_tail();
  const size_t skip =
      tail.size() > kReportedLines ? tail.size() - kReportedLines : 0;
  for (size_t line = skip; line < tail.size(); ++line) {
    *err << child.name() << "| " << tail[line] << "\n";
  }
}

}  // namespace

std::optional<std::string> Reason(const ChildProcess& child) {
  return ReasonOf(child.exit_code(), child.stderr_tail());
}

bool FollowsCoordinator(const ChildProcess& child) {
  return child.has_exited() && LostCoordinator(child.stderr_tail());
}

int ReportFailure(absl::Span<const std::unique_ptr<ChildProcess>> children,
                  bool was_ready, std::ostream* err) {
  const std::vector<const ChildProcess*> failed = FailedOf(children);
  for (const ChildProcess* child : failed) {
    if (!Reason(*child).has_value()) QuoteTail(*child, err);
  }
  absl::flat_hash_set<std::string> reasons;
  for (const ChildProcess* child : failed) {
    const std::optional<std::string> reason = Reason(*child);
    if (!reason.has_value()) {
      *err << "quire serve: the " << child->name() << " "
           << child->DescribeExit()
           << (was_ready ? "" : " before the server was ready")
           << "; its log is " << child->log_path() << std::endl;
    } else if (reasons.insert(*reason).second) {  // of all ranks
      // The coordinator speaks for the server.
      const bool is_server = child == children.front().get();
      *err << "quire serve: "
           << (is_server ? "" : absl::StrCat(child->name(), ": ")) << *reason
           << " (log: " << child->log_path() << ")" << std::endl;
    }
  }
  const bool is_usage =
      !was_ready && std::any_of(failed.begin(), failed.end(), [](auto* child) {
        return child->exit_code() == kUsageExit;
      });
  return is_usage ? kUsageExit : 1;
}

}  // namespace quire
