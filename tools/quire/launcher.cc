// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/launcher.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "proto/cluster.pb.h"
#include "tools/cli/server_queries.h"
#include "tools/quire/failure_report.h"
#include "tools/quire/last_words.h"
#include "tools/quire/start_box.h"

namespace quire {
namespace {

constexpr absl::Duration kPollInterval = absl::Milliseconds(100);
constexpr absl::Duration kQueryTimeout = absl::Milliseconds(500);
constexpr absl::Duration kInfoTimeout = absl::Seconds(5);
// Children that fail together are reported together.
constexpr absl::Duration kCompany = absl::Milliseconds(300);
// A coordinator that lets its workers go is about to say why.
constexpr absl::Duration kLastWords = absl::Seconds(3);
// After a failure there is nothing to drain.
constexpr absl::Duration kFailureGrace = absl::Seconds(5);
constexpr int kKillingInterrupt = 3;
// Share of the grace after which a coordinator that still drains is told to
// hurry. The rest is for it to answer what runs, with a reason.
constexpr double kDrainShare = 0.9;

// So its engine says, a little later than its workers.
bool IsReady(const v1::Group& group) { return group.num_blocks() > 0; }

}  // namespace

Launcher::Launcher(LauncherOptions options, SignalEvents* events,
                   std::ostream* err, const Clock* clock)
    : options_(std::move(options)),
      events_(events),
      err_(err),
      clock_(clock),
      start_(clock->Now()),
      progress_(options_.progress_style, err, clock) {}

int Launcher::Run() {
  absl::Status status = StartCoordinator();
  while (status.ok() && num_interrupts_ == 0 && !AnyExited()) {
    Poll(stage_ == Stage::kServing ? UntilNextWorker() : kPollInterval);
    if (num_interrupts_ > 0 || AnyExited()) break;
    KillOverdue();
    status = ReplaceWorkers();
    if (status.ok()) status = Advance();
  }
  progress_.Finish();
  int result = 0;
  if (num_interrupts_ > 0) {
    *err_ << "quire serve: ending; again to hurry" << std::endl;
  } else {
    // What is read meanwhile may make a group serve that did not.
    const bool had_exited = AnyExited();
    AwaitCompany();
    // Whoever died says more than the call that then failed.
    const bool has_exited = had_exited || AnyExited();
    result = has_exited
                 ? ReportFailure(children_, stage_ == Stage::kServing, err_)
                 : 1;
    if (!has_exited) {
      *err_ << "quire serve: " << status.message() << std::endl;
    }
  }
  StopChildren();
  return result;
}

absl::Status Launcher::StartCoordinator() {
  ChildProcess::Options options;
  options.name = "coordinator";
  options.argv = {options_.coordinator_binary};
  options.argv.insert(options.argv.end(), options_.coordinator_flags.begin(),
                      options_.coordinator_flags.end());
  options.on_stdout_line = [this](const std::string& line) {
    HandleCoordinatorLine(line);
  };
  return StartChild(std::move(options));
}

absl::Status Launcher::StartWorkers() {
  for (int64_t group = 0; group < options_.num_groups; ++group) {
    for (int64_t rank = 0; rank < options_.num_workers; ++rank) {
      QUIRE_RETURN_IF_ERROR(StartWorker(group, rank));
    }
  }
  lives_.resize(options_.num_groups * options_.num_workers);
  return absl::OkStatus();
}

absl::Status Launcher::StartWorker(int64_t group, int64_t rank) {
  ChildProcess::Options options;
  const int64_t number = group * options_.num_workers + rank;
  options.name = absl::StrCat("worker ", number);
  options.argv = {options_.worker_binary,
                  absl::StrCat("--coordinator=", listening_.control_address),
                  absl::StrCat("--rank=", rank)};
  options.argv.insert(options.argv.end(), options_.worker_flags.begin(),
                      options_.worker_flags.end());
  if (options_.num_groups > 1) {
    options.argv.push_back(absl::StrCat("--group=", group));
    if (options_.numbers_gpus) {
      options.argv.push_back(absl::StrCat("--device=cuda:", number));
    }
  }
  return StartChild(std::move(options));
}

absl::Status Launcher::ReplaceWorkers() {
  if (NeedsAllWorkers()) return absl::OkStatus();
  for (size_t idx = 0; idx < lives_.size(); ++idx) {
    const WorkerLife& life = lives_[idx];
    if (children_[1 + idx]->has_exited() && !life.is_over()) NoteEnd(idx);
    if (life.restart_at().has_value() && *life.restart_at() <= clock_->Now()) {
      QUIRE_RETURN_IF_ERROR(Restart(idx));
    }
  }
  return absl::OkStatus();
}

void Launcher::NoteEnd(size_t worker_idx) {
  progress_.Finish();
  const ChildProcess& child = *children_[1 + worker_idx];
  WorkerLife& life = lives_[worker_idx];
  const absl::Time now = clock_->Now();
  life.End(!options_.restarts_workers ? WorkerLife::Restarts::kNever
           : options_.num_groups == 1 ? WorkerLife::Restarts::kAFewTimes
                                      : WorkerLife::Restarts::kAlways,
           now);
  const std::optional<std::string> reason = Reason(child);
  *err_ << "quire serve: the " << child.name() << " " << child.DescribeExit()
        << (reason.has_value() ? absl::StrCat(": ", *reason) : "")
        << "; its log is " << child.log_path();
  if (!life.is_lost()) {
    const absl::Duration delay = *life.restart_at() - now;
    *err_ << "; it is started again"
          << (delay > absl::ZeroDuration()
                  ? absl::StrCat(" in ", absl::FormatDuration(delay))
                  : "");
  }
  *err_ << std::endl;
}

absl::Status Launcher::Restart(size_t worker_idx) {
  lives_[worker_idx].Begin(clock_->Now());
  // In place of the last child, where StartChild puts it.
  QUIRE_RETURN_IF_ERROR(StartWorker(worker_idx / options_.num_workers,
                                    worker_idx % options_.num_workers));
  std::swap(children_[1 + worker_idx], children_.back());
  children_.pop_back();
  return absl::OkStatus();
}

absl::Duration Launcher::UntilNextWorker() const {
  absl::Time next = absl::InfiniteFuture();
  for (const WorkerLife& life : lives_) {
    next = std::min({next, life.restart_at().value_or(absl::InfiniteFuture()),
                     life.deadline().value_or(absl::InfiniteFuture())});
  }
  return next == absl::InfiniteFuture()
             ? absl::InfiniteDuration()
             : std::max(absl::ZeroDuration(), next - clock_->Now());
}

void Launcher::Dismiss(const Dismissed& dismissed) {
  const size_t worker_idx =
      size_t{dismissed.group} * options_.num_workers + dismissed.rank;
  // Another may have begun in its place, or it is not of this launcher.
  if (worker_idx >= lives_.size() ||
      children_[1 + worker_idx]->pid() != dismissed.pid) {
    return;
  }
  lives_[worker_idx].Dismiss(clock_->Now() + options_.dismissal_grace);
}

void Launcher::KillOverdue() {
  for (size_t idx = 0; idx < lives_.size(); ++idx) {
    ChildProcess& child = *children_[1 + idx];
    if (!lives_[idx].TakeOverdue(clock_->Now()) || child.has_exited()) continue;
    progress_.Finish();
    *err_ << "quire serve: the coordinator has lost the " << child.name()
          << ", which is stopped or hangs; it is killed" << std::endl;
    child.Signal(SIGKILL);
  }
}

absl::Status Launcher::StartChild(ChildProcess::Options options) {
  std::string file = options.name;
  std::replace(file.begin(), file.end(), ' ', '_');
  options.log_path = absl::StrCat(options_.log_dir, "/", file, ".log");
  if (options_.verbose) {
    options.on_stderr_line = [this,
                              name = options.name](const std::string& line) {
      *err_ << name << "| " << line << std::endl;
    };
  }
  QUIRE_ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> child,
                         ChildProcess::Start(std::move(options)));
  children_.push_back(std::move(child));
  return absl::OkStatus();
}

void Launcher::HandleCoordinatorLine(const std::string& line) {
  if (IsListeningLine(line)) {
    listening_line_ = line;
  } else if (const auto kv_size = ParseKvLine(line)) {
    kv_size_ = kv_size;
  } else if (const auto warning = ParseWarningLine(line)) {
    warnings_.push_back(*warning);
  } else if (const auto dismissed = ParseDismissedLine(line)) {
    Dismiss(*dismissed);
  } else if (IsReadyLine(line)) {
    is_ready_ = true;
  }
}

absl::Status Launcher::Advance() {
  if (stage_ == Stage::kStarting && listening_line_.has_value()) {
    QUIRE_ASSIGN_OR_RETURN(listening_, ParseListeningLine(*listening_line_));
    QUIRE_RETURN_IF_ERROR(StartWorkers());
    control_ = MakeChannel(listening_.control_address);
    stage_ = Stage::kLoading;
  }
  if (stage_ == Stage::kLoading && !is_ready_) ShowLoading();
  if (stage_ == Stage::kLoading && is_ready_) {
    QUIRE_RETURN_IF_ERROR(AnnounceReady());
    stage_ = Stage::kServing;
  }
  return absl::OkStatus();
}

void Launcher::ShowLoading() {
  // A coordinator too busy to answer is asked again; one that died is noticed
  // by its exit.
  const absl::StatusOr<v1::StatusResponse> status =
      GetClusterStatus(control_, kQueryTimeout);
  if (!status.ok()) return;
  progress_.Update(*status);
  for (const v1::Group& group : status->groups()) {
    has_served_ |= IsReady(group);
  }
  if (!ServesWithoutFailed(*status)) return;
  is_ready_ = true;
  warnings_.push_back(
      "not all groups serve: workers have failed, see above; they are started "
      "again");
}

bool Launcher::ServesWithoutFailed(const v1::StatusResponse& status) const {
  if (NeedsAllWorkers()) return false;
  int num_ready = 0;
  for (const v1::Group& group : status.groups()) {
    num_ready += IsReady(group) ? 1 : 0;
    if (!IsReady(group) && (group.state() != v1::GROUP_STATE_JOINING ||
                            !HasFailed(group.group()))) {
      return false;
    }
  }
  return num_ready > 0;
}

bool Launcher::HasFailed(size_t group) const {
  const size_t first = group * options_.num_workers;
  for (size_t idx = first; idx < first + options_.num_workers; ++idx) {
    if (children_[1 + idx]->has_exited() || lives_[idx].has_failed()) {
      return true;
    }
  }
  return false;
}

absl::Status Launcher::AnnounceReady() {
  progress_.Finish();
  control_ = nullptr;
  QUIRE_ASSIGN_OR_RETURN(
      v1::GetServerInfoResponse info,
      GetServerInfo(MakeChannel(listening_.public_address), kInfoTimeout));
  if (kv_size_.has_value()) {
    // The engine's own count lags until its first step.
    info.set_num_blocks(kv_size_->num_blocks);
    info.set_block_size(kv_size_->block_size);
  }
  *err_ << StartBox(info, listening_, clock_->Now() - start_)
        << "logs: " << options_.log_dir << std::endl;
  for (const std::string& warning : warnings_) {
    *err_ << "warning: " << warning << std::endl;
  }
  return options_.ready_file.empty() ? absl::OkStatus() : WriteReadyFile();
}

absl::Status Launcher::WriteReadyFile() const {
  // Readers must never see half a file, so it appears by renaming.
  const std::string partial = options_.ready_file + ".partial";
  std::ofstream file(partial);
  file << "public=" << listening_.public_address << "\n"
       << "control=" << listening_.control_address << "\n"
       << "metrics=" << listening_.metrics_address << "\n"
       << "pid=" << getpid() << "\n";
  file.close();
  if (!file || rename(partial.c_str(), options_.ready_file.c_str()) != 0) {
    return absl::InternalError(
        absl::StrCat("cannot write --ready_file=", options_.ready_file, ": ",
                     strerror(errno)));
  }
  return absl::OkStatus();
}

void Launcher::Poll(absl::Duration timeout) {
  std::vector<pollfd> fds = {{events_->fd(), POLLIN, 0}};
  for (const auto& child : children_) {
    for (const int fd : {child->stdout_fd(), child->stderr_fd()}) {
      if (fd >= 0) fds.push_back({fd, POLLIN, 0});
    }
  }
  const int timeout_ms =
      timeout == absl::InfiniteDuration()
          ? -1
          // What is late by now must not wait for ever.
          : static_cast<int>(
                std::max<int64_t>(absl::ToInt64Milliseconds(timeout), 0) + 1);
  poll(fds.data(), fds.size(), timeout_ms);
  HandleSignals();
  for (const auto& child : children_) {
    child->ReadOutput();
    child->Reap();
  }
}

void Launcher::HandleSignals() {
  while (const std::optional<int> signal = events_->Next()) {
    if (*signal == SIGCHLD) continue;
    ++num_interrupts_;
    last_interrupt_ = *signal;
  }
}

bool Launcher::NeedsAllWorkers() const {
  if (stage_ == Stage::kServing) {
    return options_.num_groups == 1 && !options_.restarts_workers;
  }
  return options_.num_groups == 1 || !options_.restarts_workers;
}

bool Launcher::NoGroupBegins() const {
  if (has_served_ || is_ready_ || lives_.empty()) return false;
  for (size_t idx = 0; idx < lives_.size(); ++idx) {
    const ChildProcess& child = *children_[1 + idx];
    if (child.has_exited() && child.exit_code() == kUsageExit) return true;
  }
  for (int64_t group = 0; group < options_.num_groups; ++group) {
    if (!HasFailed(group)) return false;
  }
  return true;
}

bool Launcher::AnyExited() const {
  if (options_.num_groups == 1 &&
      std::any_of(lives_.begin(), lives_.end(),
                  [](const WorkerLife& life) { return life.is_lost(); })) {
    return true;
  }
  if (NoGroupBegins()) return true;
  const auto end = NeedsAllWorkers() || children_.empty()
                       ? children_.end()
                       : children_.begin() + 1;
  return std::any_of(children_.begin(), end,
                     [](const auto& child) { return child->has_exited(); });
}

void Launcher::AwaitCompany() {
  absl::Time end = clock_->Now() + kCompany;
  while (clock_->Now() < end) Poll(end - clock_->Now());
  end = clock_->Now() + kLastWords;
  const auto follows = [](const auto& child) {
    return FollowsCoordinator(*child);
  };
  while (std::any_of(children_.begin(), children_.end(), follows) &&
         !children_.front()->has_exited() && clock_->Now() < end) {
    Poll(end - clock_->Now());
  }
}

void Launcher::StopChildren() {
  if (children_.empty()) return;
  // The coordinator first: it needs its workers to finish what runs. Without a
  // signal of the user's something has failed and there is nothing to finish.
  Stop(0, 1, last_interrupt_ == 0 ? SIGINT : last_interrupt_);
  Stop(1, children_.size(), SIGTERM);
}

void Launcher::Stop(size_t first, size_t last, int signal) {
  const auto has_ended = [&] {
    for (size_t idx = first; idx < last; ++idx) {
      if (!children_[idx]->has_exited()) return false;
    }
    return true;
  };
  for (size_t idx = first; idx < last; ++idx) children_[idx]->Signal(signal);
  int num_forwarded = num_interrupts_;
  const absl::Duration grace = last_interrupt_ == 0
                                   ? std::min(options_.grace, kFailureGrace)
                                   : options_.grace;
  const absl::Time begin = clock_->Now();
  const absl::Time deadline = begin + grace;
  absl::Time hurry_at = begin + grace * kDrainShare;
  while (!has_ended() && num_interrupts_ < kKillingInterrupt &&
         clock_->Now() < deadline) {
    Poll(std::min(kPollInterval, std::min(deadline, hurry_at) - clock_->Now()));
    KillOverdue();
    if (clock_->Now() >= hurry_at) {
      hurry_at = absl::InfiniteFuture();
      for (size_t idx = first; idx < last; ++idx) {
        children_[idx]->Signal(signal);
      }
    }
    for (; num_forwarded < num_interrupts_; ++num_forwarded) {
      for (size_t idx = first; idx < last; ++idx) {
        children_[idx]->Signal(last_interrupt_);
      }
    }
  }
  for (size_t idx = first; idx < last; ++idx) {
    if (!children_[idx]->has_exited()) {
      *err_ << "quire serve: the " << children_[idx]->name()
            << " did not end in time and was killed" << std::endl;
      children_[idx]->Signal(SIGKILL);
    }
  }
  while (!has_ended()) Poll(kPollInterval);
}

}  // namespace quire
