// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/tenant_queues.h"

#include <algorithm>
#include <cmath>

#include "glog/logging.h"

namespace quire {
namespace {

// Counter units of a token of cost 1 and weight 1: fine enough for weights of
// 1000, and 2^63 of them are 10^12 tokens of the lightest weight.
constexpr double kCounterScale = 10000;

// Shares an account among those for whom there is none. No client can send it.
constexpr char kOverflowName[] = "\x01";

int64_t Cost(double token_cost, double weight) {
  return std::max<int64_t>(1,
                           std::llround(kCounterScale * token_cost / weight));
}

}  // namespace

TenantQueues::TenantQueues(const TenantConfig& config, bool by_tenant)
    : config_(config), by_tenant_(by_tenant), tenants_(1), free_idxs_{0} {
  served_.push_back({.label = kOtherTenants});
  // The listed ones are the ones that somebody wants to see.
  for (const auto& [name, limits] : config_.tenants) LabelOf(name);
}

int32_t TenantQueues::LabelOf(const std::string& name) {
  const auto it = labels_.find(name);
  if (it != labels_.end()) return it->second;
  if (served_.size() > kMaxTenantLabels || name == kOverflowName) return 0;
  const int32_t idx = static_cast<int32_t>(served_.size());
  served_.push_back({.label = name});
  labels_.emplace(name, idx);
  return idx;
}

int32_t TenantQueues::TakeIndex() {
  if (free_idxs_.empty()) {
    tenants_.emplace_back();
    return static_cast<int32_t>(tenants_.size()) - 1;
  }
  const int32_t idx = free_idxs_.back();
  free_idxs_.pop_back();
  return idx;
}

int32_t TenantQueues::Enter(const std::string& tenant, absl::Time now) {
  std::string name = tenant;
  auto it = by_name_.find(name);
  if (it == by_name_.end()) {
    Forget(now);
    const auto num_open = static_cast<int32_t>(by_name_.size());
    if (num_open >= config_.max_tracked) {
      name = std::string(kOverflowName);
      it = by_name_.find(name);
    }
  }
  if (it == by_name_.end()) {
    const int32_t idx = TakeIndex();
    it = by_name_.emplace(name, idx).first;
    Open(name, idx, now);
  }
  ++tenants_[it->second].num_groups;
  return it->second;
}

void TenantQueues::Open(const std::string& name, int32_t tenant_idx,
                        absl::Time now) {
  Tenant& tenant = tenants_[tenant_idx];
  tenant.name = name;
  tenant.limits = &config_.Of(name);
  tenant.label_idx = LabelOf(name);
  tenant.prompt_cost = Cost(config_.prompt_token_cost, tenant.limits->weight);
  tenant.output_cost = Cost(config_.output_token_cost, tenant.limits->weight);
  tenant.counter = 0;
  const auto known = remembered_.find(name);
  if (known != remembered_.end()) {
    tenant.counter = known->second.counter;
    remembered_.erase(known);
  }
  num_with_quota_ += tenant.limits->has_quota();
  Resolve(&tenant);
  Forget(now);
}

void TenantQueues::Resolve(Tenant* tenant) const {
  tenant->num_guaranteed_blocks = tenant->limits->GuaranteedBlocks(num_blocks_);
  tenant->max_num_blocks = tenant->limits->MaxBlocks(num_blocks_);
}

void TenantQueues::Leave(int32_t tenant_idx, absl::Time now) {
  Tenant& tenant = tenants_[tenant_idx];
  CHECK_GT(tenant.num_groups, 0);
  if (--tenant.num_groups > 0) return;
  num_with_quota_ -= tenant.limits->has_quota();
  last_counter_ = std::max(last_counter_, tenant.counter);
  remembered_[tenant.name] = {.counter = tenant.counter, .since = now};
  idle_.push_back({tenant.name, now});
  by_name_.erase(tenant.name);
  free_idxs_.push_back(tenant_idx);
  Forget(now);
}

// Closes accounts that are too old or too many. An entry of idle_ counts only
// if its tenant has been idle since then.
void TenantQueues::Forget(absl::Time now) {
  while (!idle_.empty()) {
    const auto& [name, since] = idle_.front();
    const auto it = remembered_.find(name);
    const bool is_old = it == remembered_.end() || it->second.since != since;
    const bool is_over = num_tracked() > config_.max_tracked ||
                         now - since >= config_.idle_expiry;
    if (!is_old && !is_over) return;
    if (!is_old) remembered_.erase(it);
    idle_.pop_front();
  }
}

// Who has not been waiting is owed little by those who have.
void TenantQueues::Lift(Tenant* tenant) const {
  int64_t least = -1;
  for (const auto& [name, idx] : by_name_) {
    const Tenant& other = tenants_[idx];
    if (&other == tenant || other.waiting.empty()) continue;
    if (least < 0 || other.counter < least) least = other.counter;
  }
  if (least < 0 && by_name_.size() == 1) least = last_counter_;
  const int64_t burst = Cost(config_.prompt_token_cost, 1) *
                        static_cast<int64_t>(config_.burst_tokens);
  tenant->counter = std::max(tenant->counter, least - burst);
}

void TenantQueues::Insert(int32_t tenant_idx, const WaitingGroup& group) {
  WaitingQueue& waiting = queue(tenant_idx);
  if (by_tenant_ && waiting.empty() && !group.preempted) {
    Lift(&tenants_[tenant_idx]);
  }
  waiting.Insert(group);
  ++num_waiting_;
}

void TenantQueues::Erase(int32_t tenant_idx, int64_t rank, int64_t arrival) {
  queue(tenant_idx).Erase(rank, arrival);
  --num_waiting_;
}

int32_t TenantQueues::Position(int32_t tenant_idx, int64_t rank,
                               int64_t arrival) const {
  return static_cast<int32_t>(queue(tenant_idx).Position(rank, arrival));
}

void TenantQueues::SetPool(int32_t num_blocks) {
  num_blocks_ = num_blocks;
  for (const auto& [name, idx] : by_name_) Resolve(&tenants_[idx]);
}

void TenantQueues::FillView(absl::Span<const RunningSequence> running,
                            const ServiceOrder& order, absl::Time now,
                            View* view) {
  view->rank_now = order.RankNow(now);
  view->rank_per_level = order.rank_per_level();
  if (!by_tenant_ || (by_name_.size() <= 1 && num_with_quota_ == 0)) {
    sole_ = by_tenant_ && !by_name_.empty() ? by_name_.begin()->second : 0;
    view->waiting = tenants_[sole_].waiting.groups();
    return;
  }
  sole_ = -1;
  views_.clear();
  views_.resize(tenants_.size());
  for (const auto& [name, idx] : by_name_) {
    const Tenant& tenant = tenants_[idx];
    views_[idx] = {.waiting = tenant.waiting.groups(),
                   .counter = tenant.counter,
                   .cost_per_token = tenant.prompt_cost,
                   .num_held_blocks = 0,
                   .num_guaranteed_blocks = tenant.num_guaranteed_blocks,
                   .max_num_blocks = tenant.max_num_blocks};
  }
  view->has_quotas = num_with_quota_ > 0;
  if (view->has_quotas) CountHeldBlocks(running);
  view->tenants = views_;
}

void TenantQueues::CountHeldBlocks(absl::Span<const RunningSequence> running) {
  for (const RunningSequence& seq : running) {
    views_[seq.tenant_idx].num_held_blocks += seq.num_private_blocks;
  }
}

const WaitingGroup& TenantQueues::At(int32_t tenant_idx,
                                     int32_t waiting_idx) const {
  return queue(TenantOf(tenant_idx)).groups()[waiting_idx];
}

void TenantQueues::CountBypasses(const Decision& decision,
                                 int32_t num_admitted) {
  if (num_admitted == 0) return;
  if (sole_ < 0) {
    for (const Bypass& bypass : decision.bypasses) {
      queue(bypass.tenant_idx).at(bypass.waiting_idx).num_bypasses +=
          std::min(bypass.num_others, num_admitted);
    }
  } else if (decision.admissions.front().waiting_idx > 0) {
    queue(sole_).head().num_bypasses += num_admitted;
  }
}

void TenantQueues::ChargeOutputs(int32_t tenant_idx, int64_t num_tokens) {
  Tenant& tenant = tenants_[tenant_idx];
  tenant.counter += tenant.output_cost * num_tokens;
  served_[tenant.label_idx].num_output_tokens += num_tokens;
}

void TenantQueues::ChargePrompt(int32_t tenant_idx, int64_t num_tokens) {
  Tenant& tenant = tenants_[tenant_idx];
  tenant.counter += tenant.prompt_cost * num_tokens;
  served_[tenant.label_idx].num_prompt_tokens += num_tokens;
}

}  // namespace quire
