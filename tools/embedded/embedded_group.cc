// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/embedded_group.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "common/status_macros.h"

namespace quire {
namespace {

// One group, for the life of the process's engine.
constexpr Epoch kEpoch(1);

absl::Status OfRank(int32_t rank, int32_t world_size,
                    const absl::Status& status) {
  if (status.ok() || world_size == 1) return status;
  return absl::Status(status.code(),
                      absl::StrCat("rank ", rank, ": ", status.message()));
}

// The first failure, by rank.
absl::Status FirstFailure(const std::vector<absl::Status>& statuses) {
  for (size_t rank = 0; rank < statuses.size(); ++rank) {
    if (statuses[rank].ok()) continue;
    return OfRank(static_cast<int32_t>(rank),
                  static_cast<int32_t>(statuses.size()), statuses[rank]);
  }
  return absl::OkStatus();
}

// A rank's kernel waits for its peers', which CUDA may not start while another
// thread of the process allocates, loads or frees: that waits for all GPUs of
// the process, and so for that very kernel.
absl::Status CheckGroup(const EmbeddedGroupOptions& options) {
  if (options.load.world_size <= 1 || DeviceKind(options.device) != "cuda") {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(absl::StrCat(
      "tensor_parallel_size=", options.load.world_size,
      " on GPUs needs a process for each; one process drives one GPU: start "
      "\"quire serve\" and talk to it"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EmbeddedGroup>> EmbeddedGroup::Create(
    const EmbeddedGroupOptions& options, const LoadListener& on_load,
    DispatchListener* listener, const Clock* clock) {
  QUIRE_RETURN_IF_ERROR(CheckGroup(options));
  QUIRE_RETURN_IF_ERROR(CheckDeviceOptions(options.device));
  if (options.load.world_size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor_parallel_size=", options.load.world_size,
                     " is out of range; it must be at least 1"));
  }
  std::unique_ptr<EmbeddedGroup> group(
      new EmbeddedGroup(options.load.world_size, listener, clock));
  QUIRE_RETURN_IF_ERROR(group->Load(options, on_load));
  QUIRE_RETURN_IF_ERROR(group->Allocate(options));
  return group;
}

EmbeddedGroup::EmbeddedGroup(int32_t world_size, DispatchListener* listener,
                             const Clock* clock)
    : world_size_(world_size),
      listener_(listener),
      clock_(clock),
      merger_(world_size, kEpoch, kEpoch) {
  ready_.coordinator_epoch = kEpoch;
  ready_.group_epoch = kEpoch;
}

EmbeddedGroup::~EmbeddedGroup() {
  // A step of one rank needs those of the others: none may be dropped.
  absl::MutexLock lock(&mutex_);
  const auto is_idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return num_running_ == 0;
  };
  mutex_.Await(absl::Condition(&is_idle));
}

absl::Status EmbeddedGroup::Load(const EmbeddedGroupOptions& options,
                                 const LoadListener& on_load) {
  std::vector<absl::Status> statuses(world_size_);
  absl::BlockingCounter pending(world_size_);
  for (int32_t rank = 0; rank < world_size_; ++rank) {
    workers_.push_back(std::make_unique<WorkerCore>(clock_));
    workers_.back()->Join(
        kEpoch, kEpoch, rank, world_size_,
        [this, device = options.device](const LoadSpec& spec,
                                        const LoadObserver& observer) {
          return LoadExecutor(device, spec, &board_, clock_, observer);
        });
    LoadSpec spec = options.load;
    spec.rank = rank;
    workers_.back()->Load(
        kEpoch, kEpoch, spec,
        [&on_load, rank](const char* phase, int64_t done, int64_t total) {
          if (on_load != nullptr) on_load(rank, phase, done, total);
        },
        [&, rank](absl::Status status) {
          statuses[rank] = std::move(status);
          pending.DecrementCount();
        });
  }
  pending.Wait();
  return FirstFailure(statuses);
}

absl::Status EmbeddedGroup::Allocate(const EmbeddedGroupOptions& options) {
  std::vector<absl::Status> statuses(world_size_);
  std::vector<MemoryProfile> profiles(world_size_);
  absl::BlockingCounter measuring(world_size_);
  for (int32_t rank = 0; rank < world_size_; ++rank) {
    workers_[rank]->Profile(kEpoch, kEpoch, options.memory_utilization,
                            [&, rank](absl::StatusOr<MemoryProfile> profile) {
                              statuses[rank] = profile.status();
                              if (profile.ok()) profiles[rank] = *profile;
                              measuring.DecrementCount();
                            });
  }
  measuring.Wait();
  QUIRE_RETURN_IF_ERROR(FirstFailure(statuses));
  int64_t num_blocks = std::numeric_limits<int32_t>::max();
  int64_t num_host_blocks = num_blocks;
  double swap = std::numeric_limits<double>::infinity();
  double prefill = swap;
  const double step_tokens = options.load.limits.max_num_batched_tokens;
  for (const MemoryProfile& profile : profiles) {
    const int64_t block_bytes = std::max<int64_t>(1, profile.block_bytes);
    num_blocks = std::min(num_blocks, profile.kv_bytes / block_bytes);
    num_host_blocks =
        std::min(num_host_blocks, options.swap_space_bytes / block_bytes);
    swap = std::min(swap, 1.0 * profile.swap_bytes_per_second / block_bytes);
    const double seconds = absl::ToDoubleSeconds(profile.largest_step);
    prefill = std::min(prefill, seconds > 0 ? step_tokens / seconds : 0);
  }
  if (options.num_blocks_override > 0) num_blocks = options.num_blocks_override;
  if (num_blocks == 0) {
    return absl::ResourceExhaustedError(
        "no memory is left for KV blocks; raise memory_utilization or lower "
        "max_num_batched_tokens");
  }
  ready_.num_blocks = static_cast<int32_t>(num_blocks);
  ready_.num_host_blocks = static_cast<int32_t>(num_host_blocks);
  ready_.swap_blocks_per_second = swap;
  ready_.prefill_tokens_per_second = prefill;
  if (options.load.virtual_page_bytes > 0) {
    ready_.block_size = profiles.front().block_tokens;
  }
  absl::BlockingCounter allocating(world_size_);
  for (int32_t rank = 0; rank < world_size_; ++rank) {
    workers_[rank]->AllocateKv(kEpoch, kEpoch, ready_.num_blocks,
                               ready_.num_host_blocks,
                               [&, rank](absl::Status status) {
                                 statuses[rank] = std::move(status);
                                 allocating.DecrementCount();
                               });
  }
  allocating.Wait();
  return FirstFailure(statuses);
}

void EmbeddedGroup::Send(const StepPlan& plan) {
  {
    absl::MutexLock lock(&mutex_);
    if (is_lost_) return;
    merger_.ExpectStep(plan.identity.step_id);
    num_running_ += world_size_;
  }
  // Every rank reads the one copy; the last lets it go.
  const auto shared = std::make_shared<const StepPlan>(plan);
  for (int32_t rank = 0; rank < world_size_; ++rank) {
    const auto result = std::make_shared<StepResult>();
    workers_[rank]->Step(shared.get(), clock_->Now(), result.get(),
                         [this, rank, shared, result](absl::Status status) {
                           OnStep(rank, status, std::move(*result));
                         });
  }
}

void EmbeddedGroup::OnStep(int32_t rank, const absl::Status& status,
                           StepResult result) {
  absl::Status cause = OfRank(rank, world_size_, status);
  {
    absl::MutexLock lock(&mutex_);
    --num_running_;
    if (is_lost_) return;
    if (cause.ok()) {
      absl::StatusOr<std::optional<StepResult>> merged =
          merger_.Add(rank, std::move(result));
      if (merged.ok()) {
        // Under the lock, so that results arrive in step order.
        if (merged->has_value()) listener_->OnStepResult(**std::move(merged));
        return;
      }
      cause = merged.status();
    }
    is_lost_ = true;
  }
  listener_->OnGroupLost(kEpoch, cause);
}

}  // namespace quire
