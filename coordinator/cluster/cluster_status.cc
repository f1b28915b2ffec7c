// SPDX-License-Identifier: Apache-2.0
#include "coordinator/cluster/cluster_status.h"

#include <vector>

namespace quire {
namespace {

v1::GroupState ToProto(GroupState state, bool is_draining) {
  switch (state) {
    case GroupState::kJoining:
      return v1::GROUP_STATE_JOINING;
    case GroupState::kLoading:
      return v1::GROUP_STATE_LOADING;
    case GroupState::kWarming:
      return v1::GROUP_STATE_WARMING;
    case GroupState::kReady:
      return is_draining ? v1::GROUP_STATE_DRAINING : v1::GROUP_STATE_READY;
    case GroupState::kDead:
      return v1::GROUP_STATE_DEAD;
  }
  return v1::GROUP_STATE_UNSPECIFIED;
}

void FillRank(const RankInfo& info, v1::Rank* rank) {
  rank->set_rank(info.rank);
  rank->set_address(info.address);
  rank->set_device(info.device);
  rank->set_pid(info.pid);
  rank->set_heartbeat_age_s(absl::ToDoubleSeconds(info.heartbeat_age));
  rank->set_load_phase(info.load.phase);
  rank->set_load_bytes_done(info.load.bytes_done);
  rank->set_load_bytes_total(info.load.bytes_total);
  rank->set_last_step_id(info.last_step.value());
  rank->set_collective(info.links.collective);
  for (const std::string& link : info.links.links) rank->add_links(link);
  for (const LinkReport::AllReduceTime& time : info.links.all_reduce) {
    rank->add_all_reduce_bytes(time.bytes);
    rank->add_all_reduce_us(time.us);
  }
}

}  // namespace

void FillStatus(const ClusterContext& cluster, v1::StatusResponse* response) {
  std::vector<EngineStats> stats;  // by group
  EngineStats sum;
  for (const EngineClient* engine : cluster.engines) {
    stats.push_back(engine->Stats());
    sum.num_running += stats.back().num_running;
    sum.num_waiting += stats.back().num_waiting;
    sum.num_finished += stats.back().num_finished;
    sum.num_preemptions += stats.back().num_preemptions;
  }
  const bool is_draining = cluster.is_draining();
  response->set_version(cluster.version);
  response->set_model(cluster.model);
  response->set_coordinator_epoch(
      cluster.registry->coordinator_epoch().value());
  response->set_draining(is_draining);
  response->set_uptime_s(
      absl::ToDoubleSeconds(cluster.clock->Now() - cluster.started));
  response->set_num_running_requests(sum.num_running);
  response->set_num_waiting_requests(sum.num_waiting);
  response->set_num_finished_requests(sum.num_finished);
  response->set_num_preemptions(sum.num_preemptions);
  response->set_public_address(cluster.public_address);
  for (const GroupInfo& info : cluster.registry->Groups()) {
    v1::Group* group = response->add_groups();
    group->set_group(info.group);
    group->set_group_epoch(info.group_epoch.value());
    group->set_state(ToProto(info.state, is_draining));
    group->set_detail(info.detail);
    for (const RankInfo& rank : info.ranks) FillRank(rank, group->add_ranks());
    const EngineStats& engine = stats[info.group];
    group->set_num_running_requests(engine.num_running);
    group->set_num_waiting_requests(engine.num_waiting);
    if (info.state != GroupState::kReady) continue;
    group->set_block_size(cluster.engines[info.group]->Info().block_size);
    group->set_num_blocks(engine.num_blocks);
    group->set_num_free_blocks(engine.num_free_blocks);
    group->set_num_cached_blocks(engine.num_cached_blocks);
    group->set_last_step_id(engine.last_step.value());
  }
}

}  // namespace quire
