// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/group_launcher.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>
#include <limits>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/wire/status_wire.h"
#include "coordinator/dispatch/worker_channel.h"
#include "proto/worker.grpc.pb.h"

namespace quire {

// The calls of one launch: the first failure cancels the others and is the
// launch's status.
class GroupLauncher::Calls {
 public:
  // Registers a call for as long as the scope lasts.
  class Scope {
   public:
    explicit Scope(Calls* calls) : calls_(calls) {
      absl::MutexLock lock(&calls_->mutex_);
      calls_->contexts_.insert(&context_);
      if (!calls_->failure_.ok()) context_.TryCancel();
    }
    ~Scope() {
      absl::MutexLock lock(&calls_->mutex_);
      calls_->contexts_.erase(&context_);
    }
    grpc::ClientContext* context() { return &context_; }

   private:
    Calls* const calls_;
    grpc::ClientContext context_;
  };

  void Fail(const absl::Status& cause) {
    absl::MutexLock lock(&mutex_);
    if (!failure_.ok()) return;
    failure_ = cause;
    for (grpc::ClientContext* context : contexts_) context->TryCancel();
  }

  absl::Status failure() const {
    absl::MutexLock lock(&mutex_);
    return failure_;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);
};

// One rank's part. Used by one thread at a time.
class GroupLauncher::RankLaunch {
 public:
  RankLaunch(int32_t rank, const std::string& address,
             absl::Duration heartbeat_timeout, const v1::EpochPair& epoch,
             Calls* calls)
      : rank_(rank),
        address_(address),
        epoch_(epoch),
        calls_(calls),
        channel_(MakeWorkerChannel(address, heartbeat_timeout)),
        stub_(v1::Worker::NewStub(channel_)) {}

  void Load(const LaunchOptions& options, int32_t world_size,
            const LaunchObserver& observer) {
    v1::LoadRequest request;
    *request.mutable_epoch() = epoch_;
    request.set_model_path(options.model_path);
    request.set_dtype(options.dtype);
    request.set_load_format(options.load_format);
    request.set_rank(rank_);
    request.set_world_size(world_size);
    request.set_max_num_seqs(options.max_num_seqs);
    request.set_max_num_batched_tokens(options.max_num_batched_tokens);
    request.set_max_model_len(options.max_model_len);
    request.set_block_size(options.block_size);
    request.set_seed(options.seed);
    request.set_virtual_page_bytes(options.virtual_page_bytes);
    request.set_sparse_pages(options.sparse_pages);
    Calls::Scope call(calls_);
    const auto reader = stub_->Load(call.context(), request);
    v1::LoadProgress progress;
    while (reader->Read(&progress)) {
      if (observer.on_load == nullptr) continue;
      observer.on_load(rank_, progress.phase(), progress.bytes_done(),
                       progress.bytes_total());
    }
    Note(reader->Finish());
  }

  void Profile(double memory_utilization) {
    v1::ProfileRequest request;
    *request.mutable_epoch() = epoch_;
    request.set_memory_utilization(memory_utilization);
    Calls::Scope call(calls_);
    Note(stub_->Profile(call.context(), request, &profile_));
    if (calls_->failure().ok() && profile_.block_bytes() == 0) {
      Note(grpc::Status(grpc::StatusCode::INTERNAL,
                        "it reported blocks of 0 bytes"));
    }
  }

  void AllocateKv(int32_t num_blocks, int32_t num_host_blocks) {
    v1::AllocateKvRequest request;
    *request.mutable_epoch() = epoch_;
    request.set_num_blocks(num_blocks);
    request.set_num_host_blocks(num_host_blocks);
    v1::AllocateKvResponse response;
    Calls::Scope call(calls_);
    Note(stub_->AllocateKv(call.context(), request, &response));
  }

  const v1::ProfileResponse& profile() const { return profile_; }
  GrpcDispatcher::Rank rank() const { return {address_, channel_}; }

 private:
  void Note(const grpc::Status& status) {
    if (status.ok()) return;
    const absl::Status cause = FromGrpcStatus(status);
    calls_->Fail(absl::Status(
        cause.code(),
        absl::StrCat("rank ", rank_, " (", address_, "): ", cause.message())));
  }

  const int32_t rank_;
  const std::string address_;
  const v1::EpochPair epoch_;
  Calls* const calls_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Worker::Stub> stub_;
  v1::ProfileResponse profile_;
};

namespace {

// Runs `part` for all ranks at once and waits. A launch has few ranks and
// minutes to run, so each may have a thread.
template <typename Ranks, typename Part>
void OnAllRanks(const Ranks& ranks, const Part& part) {
  std::vector<std::thread> threads;
  for (const auto& rank : ranks) {
    threads.emplace_back([&part, &rank] { part(rank.get()); });
  }
  for (std::thread& thread : threads) thread.join();
}

LinkReport LinksOf(const v1::ProfileResponse& profile) {
  LinkReport links;
  links.collective = profile.collective();
  links.links.assign(profile.links().begin(), profile.links().end());
  const int num_times =
      std::min(profile.all_reduce_bytes_size(), profile.all_reduce_us_size());
  for (int i = 0; i < num_times; ++i) {
    links.all_reduce.push_back(
        {profile.all_reduce_bytes(i), profile.all_reduce_us(i)});
  }
  return links;
}

// Of `num_measured` blocks that there is room for.
uint64_t NumBlocks(const MemoryShare& share, uint64_t num_measured) {
  if (share.num_known_blocks == 0) return num_measured / share.num_groups;
  return std::min<uint64_t>(num_measured, share.num_known_blocks);
}

}  // namespace

absl::Status GroupLauncher::RunParts(
    const std::vector<std::unique_ptr<RankLaunch>>& ranks, Calls* calls,
    const LaunchObserver& observer, const MemoryShare& share,
    LaunchedGroup* group) {
  OnAllRanks(ranks, [&](RankLaunch* rank) {
    rank->Load(options_, static_cast<int32_t>(ranks.size()), observer);
  });
  QUIRE_RETURN_IF_ERROR(calls->failure());
  if (observer.on_warming != nullptr) observer.on_warming();
  // A pool of a given size needs no share of the memory, only room.
  const double utilization =
      options_.num_blocks_override > 0 ? 1 : options_.memory_utilization;
  OnAllRanks(ranks, [&](RankLaunch* rank) { rank->Profile(utilization); });
  QUIRE_RETURN_IF_ERROR(calls->failure());
  if (observer.on_links != nullptr) {
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      observer.on_links(static_cast<int32_t>(rank),
                        LinksOf(ranks[rank]->profile()));
    }
  }
  uint64_t num_blocks = std::numeric_limits<int32_t>::max();
  uint64_t block_bytes = 0;
  for (const auto& rank : ranks) {
    const v1::ProfileResponse& profile = rank->profile();
    num_blocks =
        std::min(num_blocks,
                 NumBlocks(share, profile.kv_bytes() / profile.block_bytes()));
    block_bytes += profile.block_bytes();
    if (options_.virtual_page_bytes > 0) {
      if (rank != ranks.front() &&
          profile.block_tokens() != group->ready.block_size) {
        return absl::InternalError(absl::StrCat(
            "page groups hold ", group->ready.block_size, " tokens on rank 0, ",
            profile.block_tokens(), " on another"));
      }
      group->ready.block_size = static_cast<int32_t>(profile.block_tokens());
    }
    group->weight_bytes += profile.weight_bytes();
    group->largest_step =
        std::max(group->largest_step, absl::Microseconds(profile.step_us()));
  }
  if (options_.num_blocks_override > 0) {
    num_blocks = options_.num_blocks_override;
  }
  if (num_blocks == 0) {
    return absl::ResourceExhaustedError(
        "no memory is left for KV blocks; raise --memory_utilization or "
        "lower --max_num_batched_tokens");
  }
  group->kv_bytes = num_blocks * block_bytes;
  group->ready.num_blocks = static_cast<int32_t>(num_blocks);
  MeasurePreemption(ranks, &group->ready);
  OnAllRanks(ranks, [&](RankLaunch* rank) {
    rank->AllocateKv(group->ready.num_blocks, group->ready.num_host_blocks);
  });
  return calls->failure();
}

// Ranks swap and compute at the same time, so the slowest decides.
void GroupLauncher::MeasurePreemption(
    const std::vector<std::unique_ptr<RankLaunch>>& ranks, GroupReady* ready) {
  const double step_tokens = std::min<double>(
      options_.max_num_batched_tokens,
      double{1} * options_.max_num_seqs * options_.max_model_len);
  double least_swap = std::numeric_limits<double>::infinity();
  double least_prefill = least_swap;
  uint64_t num_host_blocks = std::numeric_limits<int32_t>::max();
  for (const auto& rank : ranks) {
    const v1::ProfileResponse& profile = rank->profile();
    const double block_bytes = static_cast<double>(profile.block_bytes());
    num_host_blocks = std::min(
        num_host_blocks, options_.swap_space_bytes / profile.block_bytes());
    least_swap =
        std::min(least_swap, profile.swap_bytes_per_second() / block_bytes);
    least_prefill = std::min(
        least_prefill,
        profile.step_us() == 0 ? 0 : step_tokens * 1e6 / profile.step_us());
  }
  ready->num_host_blocks = static_cast<int32_t>(num_host_blocks);
  ready->swap_blocks_per_second = least_swap;
  ready->prefill_tokens_per_second = least_prefill;
}

absl::StatusOr<LaunchedGroup> GroupLauncher::Launch(
    const std::vector<std::string>& addresses, Epoch coordinator_epoch,
    Epoch group_epoch, const LaunchObserver& observer,
    const MemoryShare& share) {
  Calls calls;
  {
    absl::MutexLock lock(&mutex_);
    QUIRE_RETURN_IF_ERROR(cancelled_);
    if (group_epoch <= over_epoch_) return over_cause_;
    current_ = &calls;
    current_epoch_ = group_epoch;
  }
  v1::EpochPair epoch;
  epoch.set_coordinator_epoch(coordinator_epoch.value());
  epoch.set_group_epoch(group_epoch.value());
  const auto world_size = static_cast<int32_t>(addresses.size());
  std::vector<std::unique_ptr<RankLaunch>> ranks;
  for (int32_t rank = 0; rank < world_size; ++rank) {
    ranks.push_back(std::make_unique<RankLaunch>(
        rank, addresses[rank], options_.heartbeat_timeout, epoch, &calls));
  }
  LaunchedGroup group;
  const absl::Status status = RunParts(ranks, &calls, observer, share, &group);
  {
    absl::MutexLock lock(&mutex_);
    current_ = nullptr;
  }
  QUIRE_RETURN_IF_ERROR(status);
  group.ready.coordinator_epoch = coordinator_epoch;
  group.ready.group_epoch = group_epoch;
  for (const auto& rank : ranks) group.ranks.push_back(rank->rank());
  return group;
}

void GroupLauncher::Cancel(const absl::Status& cause) {
  absl::MutexLock lock(&mutex_);
  cancelled_ = cause;
  if (current_ != nullptr) current_->Fail(cause);
}

void GroupLauncher::EndEpoch(Epoch group_epoch, const absl::Status& cause) {
  absl::MutexLock lock(&mutex_);
  if (group_epoch <= over_epoch_) return;
  over_epoch_ = group_epoch;
  over_cause_ = cause;
  if (current_ != nullptr && current_epoch_ <= group_epoch) {
    current_->Fail(cause);
  }
}

}  // namespace quire
