// SPDX-License-Identifier: Apache-2.0
#include "coordinator/cluster/worker_registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr absl::Duration kLongestPeriod = absl::Milliseconds(500);
constexpr int kBeatsInTimeout = 6;

}  // namespace

WorkerRegistry::WorkerRegistry(const Options& options, Epoch coordinator_epoch,
                               const Clock* clock)
    : options_(options), coordinator_epoch_(coordinator_epoch), clock_(clock) {
  CHECK_GT(options.num_groups, 0);
  CHECK_GT(options.world_size, 0);
  groups_.resize(options.num_groups);
  for (Group& group : groups_) group.members.resize(options.world_size);
}

absl::StatusOr<Registration> WorkerRegistry::Register(
    const WorkerOffer& offer) {
  absl::MutexLock lock(&mutex_);
  if (!device_.empty() && offer.device != device_) {
    return absl::InvalidArgumentError(
        absl::StrCat("this cluster's workers run on ", device_,
                     "; a worker for ", offer.device, " cannot join"));
  }
  if (std::optional<Seat> seat = FindSeat(offer.instance_id)) {
    return Registration{*seat, std::nullopt};
  }
  QUIRE_ASSIGN_OR_RETURN(const Seat seat, ChooseSeat(offer));
  device_ = offer.device;
  Group& group = groups_[seat.group];
  Member member;
  member.offer = offer;
  member.last_heartbeat = clock_->Now();
  group.members[seat.rank] = std::move(member);
  LOG(INFO) << "worker " << offer.address << " (pid " << offer.pid
            << ") is rank " << seat.rank << " of group " << seat.group
            << ", epoch " << seat.group_epoch;

  Registration registration{seat, std::nullopt};
  FormedGroup formed{seat.group, seat.group_epoch, device_, {}};
  for (const std::optional<Member>& each : group.members) {
    if (!each.has_value()) return registration;
    formed.addresses.push_back(each->offer.address);
  }
  group.state = GroupState::kLoading;
  registration.formed = std::move(formed);
  return registration;
}

absl::StatusOr<Seat> WorkerRegistry::ChooseSeat(
    const WorkerOffer& offer) const {
  if (offer.rank.has_value() &&
      (*offer.rank < 0 || *offer.rank >= options_.world_size)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", *offer.rank, " does not exist: ranks are 0 to ",
                     options_.world_size - 1));
  }
  if (offer.group.has_value() &&
      (*offer.group < 0 || *offer.group >= options_.num_groups)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "group ", *offer.group, " does not exist: groups are 0 to ",
        options_.num_groups - 1));
  }
  for (int32_t group_idx = 0; group_idx < options_.num_groups; ++group_idx) {
    const Group& group = groups_[group_idx];
    if (offer.group.has_value() && *offer.group != group_idx) continue;
    if (group.state != GroupState::kJoining) continue;
    for (int32_t rank = 0; rank < options_.world_size; ++rank) {
      if (offer.rank.has_value() && *offer.rank != rank) continue;
      if (group.members[rank].has_value()) continue;
      return Seat{group_idx, rank, options_.world_size, coordinator_epoch_,
                  group.epoch};
    }
  }
  QUIRE_RETURN_IF_ERROR(CheckNoneIsLost(offer.group));
  const std::string where = offer.group.has_value()
                                ? absl::StrCat("in group ", *offer.group)
                                : "in every group";
  if (offer.rank.has_value()) {
    return absl::AlreadyExistsError(absl::StrCat(
        "rank ", *offer.rank, " is taken by a living worker ", where));
  }
  if (offer.group.has_value()) {
    return absl::AlreadyExistsError(
        absl::StrCat("all ranks are taken ", where));
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("every group is complete (", options_.num_groups, " with ",
                   options_.world_size, " ranks)"));
}

absl::Status WorkerRegistry::CheckNoneIsLost(
    const std::optional<int32_t>& wanted) const {
  if (options_.reform) return absl::OkStatus();
  for (int32_t group_idx = 0; group_idx < options_.num_groups; ++group_idx) {
    if (wanted.has_value() && *wanted != group_idx) continue;
    if (groups_[group_idx].state != GroupState::kDead) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("group ", group_idx,
                     " was lost; with --on_group_lost=exit it is not formed "
                     "again"));
  }
  return absl::OkStatus();
}

std::optional<Seat> WorkerRegistry::FindSeat(uint64_t instance_id) const {
  for (int32_t group_idx = 0; group_idx < options_.num_groups; ++group_idx) {
    const Group& group = groups_[group_idx];
    for (int32_t rank = 0; rank < options_.world_size; ++rank) {
      const std::optional<Member>& member = group.members[rank];
      if (member.has_value() && member->offer.instance_id == instance_id) {
        return Seat{group_idx, rank, options_.world_size, coordinator_epoch_,
                    group.epoch};
      }
    }
  }
  return std::nullopt;
}

absl::Status WorkerRegistry::Heartbeat(uint64_t instance_id,
                                       Epoch coordinator_epoch,
                                       Epoch group_epoch, StepId last_step) {
  absl::MutexLock lock(&mutex_);
  const std::optional<Seat> seat = FindSeat(instance_id);
  if (!seat.has_value() || coordinator_epoch != coordinator_epoch_ ||
      group_epoch != seat->group_epoch) {
    return absl::FailedPreconditionError(
        absl::StrCat("group epoch ", group_epoch.value(), " of coordinator ",
                     coordinator_epoch.value(), " is over"));
  }
  Member& member = *groups_[seat->group].members[seat->rank];
  member.last_heartbeat = clock_->Now();
  member.suspected_at.reset();
  member.last_step = last_step;
  return absl::OkStatus();
}

void WorkerRegistry::Leave(uint64_t instance_id, Epoch coordinator_epoch,
                           Epoch group_epoch) {
  absl::MutexLock lock(&mutex_);
  const std::optional<Seat> seat = FindSeat(instance_id);
  if (!seat.has_value() || coordinator_epoch != coordinator_epoch_ ||
      group_epoch != seat->group_epoch) {
    return;
  }
  Group& group = groups_[seat->group];
  if (group.state != GroupState::kJoining) return;
  std::optional<Member>& member = group.members[seat->rank];
  LOG(WARNING) << "rank " << seat->rank << " (" << member->offer.address
               << ") of group " << seat->group
               << " has left; its seat is free again";
  member.reset();
}

WorkerRegistry::Group* WorkerRegistry::FindLiving(int32_t group,
                                                  Epoch group_epoch) {
  if (group < 0 || group >= options_.num_groups) return nullptr;
  Group& found = groups_[group];
  if (found.epoch != group_epoch || found.state == GroupState::kDead) {
    return nullptr;
  }
  return &found;
}

absl::Status WorkerRegistry::CheckEpoch(int32_t group,
                                        Epoch group_epoch) const {
  absl::MutexLock lock(&mutex_);
  if (group >= 0 && group < options_.num_groups &&
      groups_[group].epoch == group_epoch &&
      groups_[group].state != GroupState::kDead) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "epoch ", group_epoch.value(), " of group ", group, " is over"));
}

void WorkerRegistry::SetState(int32_t group, Epoch group_epoch,
                              GroupState state) {
  absl::MutexLock lock(&mutex_);
  if (Group* found = FindLiving(group, group_epoch)) found->state = state;
}

void WorkerRegistry::SetLoadProgress(int32_t group, Epoch group_epoch,
                                     int32_t rank,
                                     const LoadProgress& progress) {
  absl::MutexLock lock(&mutex_);
  Group* found = FindLiving(group, group_epoch);
  if (found == nullptr || !found->members[rank].has_value()) return;
  found->members[rank]->load = progress;
}

void WorkerRegistry::SetLinks(int32_t group, Epoch group_epoch, int32_t rank,
                              const LinkReport& links) {
  absl::MutexLock lock(&mutex_);
  Group* found = FindLiving(group, group_epoch);
  if (found == nullptr || !found->members[rank].has_value()) return;
  found->members[rank]->links = links;
}

void WorkerRegistry::End(int32_t group, const absl::Status& cause) {
  Group& ended = groups_[group];
  ended.state = GroupState::kDead;
  ended.detail = std::string(cause.message());
  for (int32_t rank = 0; rank < options_.world_size; ++rank) {
    if (ended.members[rank].has_value()) Dismiss(group, rank);
  }
}

void WorkerRegistry::Dismiss(int32_t group, int32_t rank) {
  std::optional<Member>& member = groups_[group].members[rank];
  groups_[group].dismissed.push_back({group, rank, member->offer.pid});
  member.reset();
}

std::vector<DismissedWorker> WorkerRegistry::TakeDismissed(int32_t group) {
  absl::MutexLock lock(&mutex_);
  return std::exchange(groups_.at(group).dismissed, {});
}

bool WorkerRegistry::EndEpoch(int32_t group, Epoch group_epoch,
                              const absl::Status& cause) {
  absl::MutexLock lock(&mutex_);
  Group* found = FindLiving(group, group_epoch);
  if (found == nullptr) return false;
  End(group, cause);
  return true;
}

void WorkerRegistry::Reform(int32_t group) {
  absl::MutexLock lock(&mutex_);
  Group& found = groups_.at(group);
  if (found.state != GroupState::kDead) return;
  found.epoch = Epoch(found.epoch.value() + 1);
  found.state = GroupState::kJoining;
}

std::optional<GroupLoss> WorkerRegistry::Tick(int32_t group_idx) {
  absl::MutexLock lock(&mutex_);
  Group& group = groups_.at(group_idx);
  const absl::Time now = clock_->Now();
  for (int32_t rank = 0; rank < options_.world_size; ++rank) {
    std::optional<Member>& member = group.members[rank];
    if (!member.has_value()) continue;
    const absl::Duration silence = now - member->last_heartbeat;
    if (silence >= options_.heartbeat_timeout / 2 &&
        !member->suspected_at.has_value()) {
      member->suspected_at = now;
      LOG(WARNING) << "rank " << rank << " (" << member->offer.address
                   << ") of group " << group_idx << " has been silent for "
                   << absl::FormatDuration(silence);
    }
    if (silence < options_.heartbeat_timeout ||
        now - *member->suspected_at < heartbeat_period()) {
      continue;
    }
    const absl::Status cause = absl::UnavailableError(absl::StrCat(
        "rank ", rank, " (", member->offer.address, ") sent no heartbeat for ",
        absl::FormatDuration(options_.heartbeat_timeout),
        ": it hangs or is cut off; where machines stall, raise "
        "--heartbeat_timeout"));
    if (group.state == GroupState::kJoining) {
      LOG(WARNING) << cause.message() << "; its seat is free again";
      Dismiss(group_idx, rank);
      continue;
    }
    const GroupLoss loss{group_idx, group.epoch, cause};
    End(group_idx, cause);
    return loss;
  }
  return std::nullopt;
}

std::vector<GroupInfo> WorkerRegistry::Groups() const {
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_->Now();
  std::vector<GroupInfo> infos;
  for (int32_t group_idx = 0; group_idx < options_.num_groups; ++group_idx) {
    const Group& group = groups_[group_idx];
    GroupInfo info{group_idx, group.epoch, group.state, group.detail, {}};
    for (int32_t rank = 0; rank < options_.world_size; ++rank) {
      const std::optional<Member>& member = group.members[rank];
      if (!member.has_value()) continue;
      info.ranks.push_back({rank, member->offer.address, member->offer.device,
                            member->offer.pid, now - member->last_heartbeat,
                            member->suspected_at.has_value(), member->load,
                            member->last_step, member->links});
    }
    if (!group.detail.empty() && group.state != GroupState::kDead) {
      info.detail = "the epoch before ended: " + group.detail;
    }
    if (group.state == GroupState::kJoining) {
      info.detail =
          absl::StrCat("waiting for workers: ", info.ranks.size(), " of ",
                       options_.world_size, " ranks have joined",
                       info.detail.empty() ? "" : "; ", info.detail);
    }
    infos.push_back(std::move(info));
  }
  return infos;
}

std::string WorkerRegistry::device() const {
  absl::MutexLock lock(&mutex_);
  return device_;
}

absl::Duration WorkerRegistry::heartbeat_period() const {
  return std::min(kLongestPeriod, options_.heartbeat_timeout / kBeatsInTimeout);
}

}  // namespace quire
