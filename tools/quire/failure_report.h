// SPDX-License-Identifier: Apache-2.0
//
// What is said of children that ended by themselves.
#ifndef TOOLS_QUIRE_FAILURE_REPORT_H_
#define TOOLS_QUIRE_FAILURE_REPORT_H_

#include <memory>
#include <optional>
#include <ostream>
#include <string>

#include "absl/types/span.h"
#include "tools/quire/child_process.h"

namespace quire {

// ReasonOf() and LostCoordinator() of a child; a running one has lost nothing.
// REQUIRES of the first: it has exited.
std::optional<std::string> Reason(const ChildProcess& child);
bool FollowsCoordinator(const ChildProcess& child);

// Says which children ended and why: in one line each that gave its reason,
// once for all that gave the same, else with its last words. Of those that ended
// because the coordinator, the first of `children`, had, nothing. Returns the
// program's exit status: kUsageExit if the server was never ready and a child
// did not take its flags, else 1.
int ReportFailure(absl::Span<const std::unique_ptr<ChildProcess>> children,
                  bool was_ready, std::ostream* err);

}  // namespace quire

#endif  // TOOLS_QUIRE_FAILURE_REPORT_H_
