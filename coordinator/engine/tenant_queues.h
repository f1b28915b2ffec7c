// SPDX-License-Identifier: Apache-2.0
//
// Tenants: whose groups wait in which order, what each has been served, and
// what each may hold. Counters follow VTC (Sheng et al., OSDI'24): served
// tokens over the tenant's weight, and who begins to wait is lifted to the
// least counter of those that wait, less a bounded burst: who takes less than
// its share is served at once, and idling saves up no more than that. Unlike
// there, a prompt counts as its chunks are planned and not all at once, so that
// a long one shares its steps with others; what the prefix cache had of it, and
// what is computed anew after a preemption, count for nothing. An output token
// counts when it is planned.
#ifndef COORDINATOR_ENGINE_TENANT_QUEUES_H_
#define COORDINATOR_ENGINE_TENANT_QUEUES_H_

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/engine/engine_metrics.h"
#include "coordinator/engine/service_order.h"
#include "coordinator/engine/tenant_config.h"
#include "coordinator/engine/waiting_queue.h"
#include "coordinator/scheduler/policy.h"

namespace quire {

// Engine thread only. A tenant has an index from its first group to its last;
// then only its counter is remembered, for a while. A step costs a pass over
// the tenants that have groups.
class TenantQueues {
 public:
  // `by_tenant`: whether the policy serves tenants apart. If not, all wait in
  // one queue, and only served tokens are told apart.
  TenantQueues(const TenantConfig& config, bool by_tenant);

  // A group of the tenant begins; Leave() ends it. Returns the tenant's index.
  int32_t Enter(const std::string& tenant, absl::Time now);
  void Leave(int32_t tenant_idx, absl::Time now);
  const TenantLimits& limits(int32_t tenant_idx) const {
    return *tenants_[tenant_idx].limits;
  }

  // As in WaitingQueue, in the tenant's queue.
  void Insert(int32_t tenant_idx, const WaitingGroup& group);
  void Erase(int32_t tenant_idx, int64_t rank, int64_t arrival);
  WaitingGroup* Find(int32_t tenant_idx, int64_t rank, int64_t arrival) {
    return queue(tenant_idx).Find(rank, arrival);
  }
  // Groups before it in its tenant's order. REQUIRES: it is in.
  int32_t Position(int32_t tenant_idx, int64_t rank, int64_t arrival) const;
  size_t size() const { return num_waiting_; }

  // The pool's size changed: quotas are shares of it.
  void SetPool(int32_t num_blocks);

  // Sets waiting, tenants and quotas of `view`, and ranks it by `order`. Valid
  // until the next change.
  void FillView(absl::Span<const RunningSequence> running,
                const ServiceOrder& order, absl::Time now, View* view);
  // What a decision about the last FillView means.
  const WaitingGroup& At(int32_t tenant_idx, int32_t waiting_idx) const;
  // Its tenant's index here.
  int32_t TenantOf(int32_t view_tenant_idx) const {
    return sole_ >= 0 ? sole_ : view_tenant_idx;
  }
  // Whose queue its groups wait in.
  int32_t QueueOf(int32_t tenant_idx) const {
    return by_tenant_ ? tenant_idx : 0;
  }
  // Counts the bypasses of the first `num_admitted` admissions.
  void CountBypasses(const Decision& decision, int32_t num_admitted);
  void ChargeOutputs(int32_t tenant_idx, int64_t num_tokens);
  void ChargePrompt(int32_t tenant_idx, int64_t num_tokens);

  int64_t counter(int32_t tenant_idx) const {
    return tenants_[tenant_idx].counter;
  }
  int32_t num_tracked() const {
    return static_cast<int32_t>(by_name_.size() + remembered_.size());
  }
  // By label; the first is of all tenants without a label of their own.
  const std::vector<TenantServed>& served() const { return served_; }

 private:
  struct Tenant {
    std::string name;
    const TenantLimits* limits = nullptr;
    WaitingQueue waiting;
    int32_t num_groups = 0;  // 0: the index is free
    int64_t counter = 0;
    int64_t prompt_cost = 0;  // counter units a token
    int64_t output_cost = 0;
    int32_t label_idx = 0;
    int32_t num_guaranteed_blocks = 0;
    int32_t max_num_blocks = 0;
  };
  struct Remembered {
    int64_t counter = 0;
    absl::Time since;
  };

  WaitingQueue& queue(int32_t tenant_idx) {
    return tenants_[QueueOf(tenant_idx)].waiting;
  }
  const WaitingQueue& queue(int32_t tenant_idx) const {
    return tenants_[QueueOf(tenant_idx)].waiting;
  }
  int32_t TakeIndex();
  void Open(const std::string& name, int32_t tenant_idx, absl::Time now);
  void Resolve(Tenant* tenant) const;
  int32_t LabelOf(const std::string& name);
  void Forget(absl::Time now);
  void Lift(Tenant* tenant) const;
  void CountHeldBlocks(absl::Span<const RunningSequence> running);

  const TenantConfig config_;
  const bool by_tenant_;
  int32_t num_blocks_ = 0;
  std::vector<Tenant> tenants_;
  std::vector<int32_t> free_idxs_;
  absl::flat_hash_map<std::string, int32_t> by_name_;
  absl::flat_hash_map<std::string, Remembered> remembered_;
  std::deque<std::pair<std::string, absl::Time>> idle_;  // oldest first
  int64_t last_counter_ = 0;  // of the tenant that was last served
  size_t num_waiting_ = 0;
  int32_t num_with_quota_ = 0;  // tenants that have groups and limits

  std::vector<TenantView> views_;  // of the last FillView
  int32_t sole_ = 0;               // >= 0: its queue was View::waiting
  std::vector<TenantServed> served_;
  absl::flat_hash_map<std::string, int32_t> labels_;
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_TENANT_QUEUES_H_
