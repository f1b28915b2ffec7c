// SPDX-License-Identifier: Apache-2.0
//
// Everyone who waits, as the engine sees it: the tenants' queues, the order of
// service, and the account of why each waits.
#ifndef COORDINATOR_ENGINE_WAITING_ROOM_H_
#define COORDINATOR_ENGINE_WAITING_ROOM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/engine/engine_metrics.h"
#include "coordinator/engine/request_timeline.h"
#include "coordinator/engine/sequence_group.h"
#include "coordinator/engine/service_order.h"
#include "coordinator/engine/tenant_config.h"
#include "coordinator/engine/tenant_queues.h"
#include "coordinator/scheduler/policy.h"

namespace quire {

// Engine thread only.
class WaitingRoom {
 public:
  // `by_tenant`: SchedulingPolicy::shares_by_tenant().
  WaitingRoom(const TenantConfig& tenants, absl::Duration priority_ageing,
              bool by_tenant);

  // The group begins, with the priority that it asks for: sets its tenant_idx,
  // its priority and its rank. Unregister() once it has ended and waits not.
  void Register(SequenceGroup* group, const std::string& tenant,
                bool has_workers, absl::Time now);
  void Unregister(const SequenceGroup& group, absl::Time now);

  // The same for a group that goes to another engine, with `timeline`. Returns
  // the tokens that its tenant has paid for.
  int32_t Depart(const SequenceGroup& group, absl::Time now,
                 Timeline* timeline);
  // And for one that comes from one, where it has got its priority and rank.
  void Arrive(SequenceGroup* group, Timeline timeline,
              int32_t num_charged_tokens, bool has_workers, absl::Time now);

  // `waiting` without arrival, rank, priority and key: they are the group's.
  void Insert(const SequenceGroup& group, WaitingGroup waiting);
  void Erase(const SequenceGroup& group);
  // Null if it does not wait. Valid until the next change.
  WaitingGroup* Find(const SequenceGroup& group);
  size_t size() const { return queues_.size(); }

  // Workers are ready, with a pool of so many blocks.
  void SetPool(int32_t num_blocks, absl::Time now);
  // Nobody can be served, because of `reason`.
  void AllWait(WaitReason reason, absl::Time now);
  // They lose their slots without a policy's decision.
  void Interrupt(absl::Span<const RunningSequence> running, WaitReason reason,
                 absl::Time now);

  // Sets what the policy sees of those that wait.
  void FillView(absl::Span<const RunningSequence> running, absl::Time now,
                View* view);
  // Takes note of what the policy decided about that view. To be called before
  // any of it is carried out; admissions are then known by their key.
  void TakeDecision(const View& view, const Decision& decision, absl::Time now);
  RequestKey admission_key(size_t admission_idx) const {
    return admitted_[admission_idx];
  }
  // Entry `preempted_idx` of the decision was carried out: the group waits.
  void Preempt(const SequenceGroup& group, const Decision& decision,
               size_t preempted_idx, absl::Time now);
  // It has its slots. The step computes `num_tokens`, up to `num_computed` of
  // its first sequence; what was computed before is not charged again.
  void Admit(const SequenceGroup& group, int32_t num_computed,
             int32_t num_tokens, absl::Time now);

  const RequestTimelines& timelines() const { return timelines_; }
  const TenantQueues& queues() const { return queues_; }
  // Fills in tenants and waited.
  void FillMetrics(EngineMetrics* metrics) const;

 private:
  struct Place {
    int32_t tenant_idx = 0;
    int64_t rank = 0;
    int32_t num_prompt_tokens = 0;
    int32_t num_charged_tokens = 0;  // computed before it lost its slots
  };

  void Charge(const View& view, const Decision& decision);
  // A prefill computes `num_tokens`, up to `num_computed`, of which those that
  // were not computed before are charged: as prompt or, of one that comes back,
  // as output.
  void ChargePrefill(int64_t arrival, int32_t tenant_idx, int32_t num_computed,
                     int32_t num_tokens);
  void NoteCharged(const RunningSequence& seq);
  void Explain(const View& view, const Decision& decision, absl::Time now);
  void ExplainHead(const View& view, const Decision& decision, absl::Time now);
  void ExplainRest(const Decision& decision, absl::Time now);

  const ServiceOrder order_;
  TenantQueues queues_;
  RequestTimelines timelines_;
  std::vector<RequestKey> admitted_;  // by the last decision
  // Looked at by the last decision and the one before.
  std::vector<int64_t> looked_at_;
  std::vector<int64_t> looked_at_before_;
  // By tenant: the last decision that said why its first one waits.
  std::vector<int64_t> cause_set_by_;
  int64_t num_decisions_ = 0;
  std::vector<int32_t> num_going_;  // by tenant; 0 between decisions
  absl::flat_hash_map<int64_t, Place> places_;  // of all, by arrival
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_WAITING_ROOM_H_
