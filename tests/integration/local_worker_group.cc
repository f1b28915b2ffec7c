// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/local_worker_group.h"

#include <utility>

#include "absl/synchronization/blocking_counter.h"
#include "common/model_config.h"
#include "common/status_macros.h"
#include "kernels/cpu/cpu_backend.h"
#include "worker/model/registry.h"
#include "worker/weights/open_weights.h"

namespace quire {
namespace {

constexpr Epoch kEpoch(1);

// The group owns its collectives; an executor wants one of its own.
class BorrowedCollective final : public Collective {
 public:
  explicit BorrowedCollective(Collective* collective)
      : collective_(collective) {}
  int32_t rank() const override { return collective_->rank(); }
  int32_t world_size() const override { return collective_->world_size(); }
  absl::Status AllReduceSum(void* data, int64_t num_elements,
                            DType dtype) override {
    return collective_->AllReduceSum(data, num_elements, dtype);
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes) override {
    return collective_->AllGather(in, out, bytes);
  }
  absl::Status Barrier() override { return collective_->Barrier(); }

 private:
  Collective* const collective_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LocalWorkerGroup>> LocalWorkerGroup::Create(
    const LocalWorkerGroupOptions& options, DispatchListener* listener,
    const Clock* clock) {
  std::unique_ptr<LocalWorkerGroup> group(
      new LocalWorkerGroup(options, listener));
  // An executor lives on its own thread from the start: the OpenMP team of a
  // backend belongs to the thread that first uses it.
  std::vector<absl::Status> loaded(options.tensor_parallel_size);
  absl::BlockingCounter pending(options.tensor_parallel_size);
  for (int32_t rank = 0; rank < options.tensor_parallel_size; ++rank) {
    group->threads_.push_back(std::make_unique<TaskThread>("executor"));
    group->threads_.back()->Post([&, rank, group = group.get()] {
      auto executor = group->LoadRank(rank, clock);
      if (executor.ok()) {
        loaded[rank] = (*executor)->AllocateKv(options.num_blocks,
                                               options.num_host_blocks);
        group->executors_[rank] = *std::move(executor);
      } else {
        loaded[rank] = executor.status();
      }
      pending.DecrementCount();
    });
  }
  pending.Wait();
  for (const absl::Status& status : loaded) QUIRE_RETURN_IF_ERROR(status);
  return group;
}

LocalWorkerGroup::LocalWorkerGroup(const LocalWorkerGroupOptions& options,
                                   DispatchListener* listener)
    : options_(options),
      listener_(listener),
      collectives_(options.tensor_parallel_size),
      executors_(options.tensor_parallel_size),
      merger_(options.tensor_parallel_size, kEpoch, kEpoch) {}

LocalWorkerGroup::~LocalWorkerGroup() {
  absl::BlockingCounter idle(static_cast<int>(threads_.size()));
  for (const auto& thread : threads_) {
    thread->Post([&idle] { idle.DecrementCount(); });
  }
  idle.Wait();
}

absl::StatusOr<std::unique_ptr<Executor>> LocalWorkerGroup::LoadRank(
    int32_t rank, const Clock* clock) {
  QUIRE_ASSIGN_OR_RETURN(const ModelConfig config,
                         ModelConfig::FromFolder(options_.model));
  WeightOptions weights;
  weights.folder = options_.model;
  QUIRE_ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> source,
                         OpenWeights(weights));
  ExecutorParts parts;
  CpuBackendOptions backend;
  backend.dtype = options_.dtype;
  backend.num_threads = 1;
  QUIRE_ASSIGN_OR_RETURN(parts.backend, CpuBackend::Create(backend));
  parts.collective =
      std::make_unique<BorrowedCollective>(collectives_.collective(rank));
  QUIRE_ASSIGN_OR_RETURN(
      parts.model, CreateModel(config, options_.limits, *source, *parts.backend,
                               *parts.collective));
  parts.limits = options_.limits;
  parts.block_size = options_.block_size;
  parts.virtual_page_bytes = options_.virtual_page_bytes;
  parts.vocab_size = config.vocab_size;
  parts.num_local_ranks = options_.tensor_parallel_size;
  return Executor::Create(std::move(parts), clock);
}

GroupReady LocalWorkerGroup::ready() const {
  GroupReady group;
  group.coordinator_epoch = kEpoch;
  group.group_epoch = kEpoch;
  group.num_blocks = options_.num_blocks;
  group.num_host_blocks = options_.num_host_blocks;
  if (options_.virtual_page_bytes > 0) {
    group.block_size = executors_[0]->block_tokens();
  }
  return group;
}

void LocalWorkerGroup::Send(const StepPlan& plan) {
  {
    absl::MutexLock lock(&mutex_);
    merger_.ExpectStep(plan.identity.step_id);
  }
  for (int32_t rank = 0; rank < options_.tensor_parallel_size; ++rank) {
    threads_[rank]->Post([this, rank, plan] { Run(rank, plan); });
  }
}

void LocalWorkerGroup::Run(int32_t rank, const StepPlan& plan) {
  StepResult result;
  const absl::Status status = executors_[rank]->Step(plan, &result);
  if (!status.ok()) {
    listener_->OnGroupLost(kEpoch, status);
    return;
  }
  absl::StatusOr<std::optional<StepResult>> merged;
  {
    absl::MutexLock lock(&mutex_);
    merged = merger_.Add(rank, std::move(result));
    if (merged.ok() && merged->has_value()) {
      // Under the lock, so that results arrive in step order.
      listener_->OnStepResult(**std::move(merged));
      return;
    }
  }
  if (!merged.ok()) listener_->OnGroupLost(kEpoch, merged.status());
}

}  // namespace quire
