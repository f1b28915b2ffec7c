// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/server.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/cli/server_queries.h"

namespace quire {
namespace {

constexpr absl::Duration kQueryTimeout = absl::Seconds(5);
constexpr absl::Duration kPause = absl::Milliseconds(50);
// Of a wait that needs no word.
constexpr absl::Duration kSilence = absl::Milliseconds(500);

}  // namespace

LoadTarget::LoadTarget(std::string target, Clock* clock)
    : target_(std::move(target)),
      clock_(clock),
      channel_(MakeChannel(target_)) {}

absl::Status LoadTarget::AwaitReady(absl::Duration timeout,
                                    std::ostream* err) {
  const absl::Time start = clock_->Now();
  bool has_told = err == nullptr;
  absl::Status there = absl::UnavailableError("nobody was asked yet");
  while (true) {
    if (!there.ok()) there = WaitForServer(channel_.get(), target_, kPause);
    if (absl::IsInvalidArgument(there)) return there;
    if (there.ok()) {
      const absl::StatusOr<v1::GetServerInfoResponse> info =
          GetServerInfo(channel_, kQueryTimeout);
      if (info.ok() && info->ready()) return absl::OkStatus();
      if (!info.ok() && !absl::IsUnavailable(info.status())) {
        return info.status();
      }
    }
    const absl::Duration waited = clock_->Now() - start;
    if (waited >= timeout) return there.ok() ? NotReady(timeout) : there;
    if (!has_told && waited >= kSilence) {
      has_told = true;
      *err << "waiting up to " << absl::FormatDuration(timeout)
           << (there.ok() ? " for the workers of the server at "
                          : " for a server at ")
           << target_ << std::endl;
    }
    if (!Pause()) return absl::CancelledError("interrupted");
  }
}

absl::Status LoadTarget::NotReady(absl::Duration timeout) const {
  return absl::UnavailableError(absl::StrCat(
      "the server at ", target_, " was not ready within ",
      absl::FormatDuration(timeout),
      "; `quire status` shows its workers, --ready_check_timeout_sec waits "
      "longer"));
}

absl::StatusOr<v1::Model> LoadTarget::FindModel(const std::string& name) {
  QUIRE_ASSIGN_OR_RETURN(const v1::ListModelsResponse response,
                         ListModels(channel_, kQueryTimeout));
  std::string names;
  for (const v1::Model& model : response.models()) {
    if (name.empty() || model.name() == name) return model;
    absl::StrAppend(&names, names.empty() ? "" : ", ", model.name());
  }
  return absl::NotFoundError(
      absl::StrCat("the server at ", target_, " serves no model ", name,
                   names.empty() ? "" : absl::StrCat("; it serves ", names)));
}

absl::StatusOr<std::string> LoadTarget::CheckBlocks(absl::Duration timeout) {
  const absl::Time deadline = clock_->Now() + timeout;
  while (true) {
    QUIRE_ASSIGN_OR_RETURN(const v1::GetServerInfoResponse info,
                           GetServerInfo(channel_, kQueryTimeout));
    const uint64_t num_requests =
        uint64_t{info.num_running_requests()} + info.num_waiting_requests();
    const uint64_t num_unheld =
        uint64_t{info.num_free_blocks()} + info.num_cached_blocks();
    // Blocks return up to a step after their request has left.
    if (num_requests == 0 && num_unheld == info.num_blocks()) {
      return absl::StrCat("Blocks after the run: ", info.num_free_blocks(),
                          " free + ", info.num_cached_blocks(),
                          " cached == ", info.num_blocks());
    }
    if (clock_->Now() >= deadline && num_requests > 0) {
      return absl::DeadlineExceededError(
          absl::StrCat(num_requests, " requests are still there ",
                       absl::FormatDuration(timeout), " after the run"));
    }
    if (clock_->Now() >= deadline) {
      return absl::DataLossError(absl::StrCat(
          "blocks are missing after the run: ", info.num_free_blocks(),
          " free + ", info.num_cached_blocks(), " cached of ",
          info.num_blocks(), " though no request is there"));
    }
    if (!Pause()) return absl::CancelledError("interrupted");
  }
}

void LoadTarget::Interrupt() {
  absl::MutexLock lock(&mutex_);
  is_interrupted_ = true;
}

bool LoadTarget::Pause() {
  absl::MutexLock lock(&mutex_);
  return !clock_->AwaitUntil(&mutex_, absl::Condition(&is_interrupted_),
                             clock_->Now() + kPause);
}

}  // namespace quire
