// SPDX-License-Identifier: Apache-2.0
//
// Several replica groups as one engine: sends each request to the group that
// will start it earliest (group_choice.h) and, when a group loses its workers,
// its requests to those that have some. Each group has its own engine loop; the
// router has no thread.
//
// Limits of the queue, request ids, Cancel, Explain and the numbers of Info and
// Stats are those of all groups together. Fairness and quotas are kept within
// each group: shares of a pool are shares of every pool, and so of their sum.
#ifndef COORDINATOR_ROUTING_GROUP_ROUTER_H_
#define COORDINATOR_ROUTING_GROUP_ROUTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_loop.h"
#include "coordinator/engine/engine_options.h"
#include "coordinator/engine/engine_watcher.h"
#include "coordinator/kv/prefix_summary.h"
#include "coordinator/routing/group_choice.h"
#include "coordinator/routing/routed_requests.h"

namespace quire {

// Thread-safe. Its mutex is taken before those of loops, and by engine threads
// in steps in which a request begins or ends, for as long as a request is
// placed: some microseconds. Looking prompts up takes no lock.
class GroupRouter final : public EngineClient, public EngineWatcher {
 public:
  // `options`: of each engine. REQUIRES: num_groups > 1.
  GroupRouter(const EngineOptions& options, int32_t num_groups,
              RoutingPolicy policy);

  // What engine `group_idx` is to be created with.
  EngineSeat seat(int32_t group_idx);

  // The engines by group; borrowed until they have stopped. Before any starts.
  void SetEngines(std::vector<EngineLoop*> engines);

  // Unavailable when no group is ready; else as the chosen engine, with the
  // queues of all counted together.
  absl::StatusOr<RequestKey> Submit(EngineRequest request) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Finish(RequestKey request, FinishReason reason) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void FinishSequence(RequestKey request, int32_t index) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void SetMask(RequestKey request, int32_t index, int64_t num_outputs,
               TokenMask mask) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<RequestKey> Find(const std::string& request_id) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<Timeline> Explain(const std::string& request_id) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Sums over the groups that are ready, but for what is the same in all.
  EngineInfo Info() const override;
  EngineStats Stats() const override;

  void OnReadiness(int32_t engine_idx, bool is_ready) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnProgress(int32_t engine_idx, absl::Span<const RequestKey> begun,
                  absl::Span<const RequestEnd> ended) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnStranded(int32_t engine_idx, const absl::Status& cause,
                  std::vector<MovedGroup> groups) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnStray(int32_t engine_idx, RequestKey key,
               absl::FunctionRef<void(EngineClient*)> repeat) override
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  int32_t num_groups() const { return static_cast<int32_t>(prefixes_.size()); }
  // What a group must have room for.
  struct Demand {
    int32_t num_tokens = 0;         // to begin with, prompt and outputs
    int32_t num_prompt_tokens = 0;  // of them
    int32_t max_tokens = 0;         // outputs of a sequence
    int32_t num_seqs = 1;
  };
  // By group: of a prompt of this scope, tokens found.
  std::vector<int32_t> FindCached(CacheScope scope,
                                  absl::Span<const TokenId> prompt) const;
  RouteView MakeView(const Demand& demand,
                     const std::vector<int32_t>& num_cached,
                     const std::vector<EngineStats>& stats) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // An engine that lost its workers may not have said so yet.
  bool IsReady(int32_t group_idx, const std::vector<EngineStats>& stats) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ready_[group_idx] && stats[group_idx].ready;
  }
  std::vector<EngineStats> GroupStats() const;
  absl::Status CheckQueue(const std::vector<EngineStats>& stats,
                          int64_t num_prompt_tokens) const;
  EngineLoop* EngineOf(RequestKey key) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const EngineOptions options_;
  const RoutingPolicy policy_;
  std::vector<std::unique_ptr<PrefixSummary>> prefixes_;  // by group
  std::vector<EngineLoop*> engines_;                      // by group

  mutable absl::Mutex mutex_;
  std::vector<bool> ready_ ABSL_GUARDED_BY(mutex_);  // by group
  RoutedRequests requests_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // COORDINATOR_ROUTING_GROUP_ROUTER_H_
