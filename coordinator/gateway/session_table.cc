// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/session_table.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/wire/error_details.h"

namespace quire {
namespace {

// Aborted requests end as soon as their last write is done or dropped.
constexpr absl::Duration kAbortGrace = absl::Seconds(5);

absl::Status DrainingError() {
  absl::Status status = absl::UnavailableError(
      "the server is draining; try again elsewhere or after its restart");
  ErrorDetails details;
  details.reason = "DRAINING";
  details.retry_delay = absl::Seconds(5);
  SetErrorDetails(details, &status);
  return status;
}

}  // namespace

absl::Status SessionTable::Add(const std::string& request_id,
                               std::shared_ptr<Session> session) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return DrainingError();
  if (!sessions_.emplace(request_id, std::move(session)).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("a running request has request_id \"", request_id,
                     "\"; choose another or leave it empty"));
  }
  return absl::OkStatus();
}

void SessionTable::Remove(const std::string& request_id) {
  std::shared_ptr<Session> last;  // dropped after the lock
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(request_id);
  if (found == sessions_.end()) return;
  last = std::move(found->second);
  sessions_.erase(found);
}

absl::Status SessionTable::Cancel(const std::string& request_id) {
  std::shared_ptr<Session> session;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = sessions_.find(request_id);
    if (found == sessions_.end()) {
      return absl::NotFoundError(
          absl::StrCat("no running request has request_id \"",
                       request_id.substr(0, 128), "\""));
    }
    session = found->second;
  }
  session->Abort(absl::CancelledError("the request was cancelled by Cancel"));
  return absl::OkStatus();
}

SessionTable::DrainCounts SessionTable::Drain(absl::Time deadline,
                                              Clock* clock) {
  DrainCounts counts;
  std::vector<std::shared_ptr<Session>> rest;
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    const size_t num_sessions = sessions_.size();
    clock->AwaitUntil(&mutex_,
                      absl::Condition(this, &SessionTable::may_stop_waiting),
                      deadline);
    for (const auto& [request_id, session] : sessions_) {
      rest.push_back(session);
    }
    counts.num_aborted = static_cast<uint32_t>(rest.size());
    counts.num_finished = static_cast<uint32_t>(num_sessions - rest.size());
  }
  for (const auto& session : rest) session->Abort(DrainingError());
  rest.clear();
  absl::MutexLock lock(&mutex_);
  clock->AwaitUntil(&mutex_, absl::Condition(this, &SessionTable::is_empty),
                    clock->Now() + kAbortGrace);
  return counts;
}

void SessionTable::HurryDrain() {
  absl::MutexLock lock(&mutex_);
  hurried_ = true;
}

bool SessionTable::is_draining() const {
  absl::MutexLock lock(&mutex_);
  return draining_;
}

int64_t SessionTable::size() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int64_t>(sessions_.size());
}

}  // namespace quire
