// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/grpc_dispatcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/wire/step_plan_wire.h"
#include "coordinator/dispatch/run_stream.h"
#include "coordinator/dispatch/step_merger.h"
#include "glog/logging.h"
#include "proto/worker.pb.h"

namespace quire {
namespace {

int64_t NumTokens(const StepPlan& plan) {
  int64_t num_tokens = static_cast<int64_t>(plan.decodes.size());
  for (const Slice& chunk : plan.chunks) num_tokens += chunk.num_tokens;
  return num_tokens;
}

}  // namespace

// One epoch's streams and what is known of their steps. Guarded by the
// dispatcher's lock, but for the callbacks.
class GrpcDispatcher::Link final : public RunStreamListener {
 public:
  Link(GrpcDispatcher* owner, const GroupReady& group, std::vector<Rank> ranks,
       const StepWatchdog::Options& watchdog)
      : owner_(owner),
        group_(group),
        ranks_(std::move(ranks)),
        num_open_(static_cast<int32_t>(ranks_.size())),
        merger_(num_open_, group.coordinator_epoch, group.group_epoch),
        watchdog_(watchdog) {}

  void OnResult(int32_t rank, StepResult result) override {
    owner_->HandleResult(this, rank, std::move(result));
  }
  void OnStreamEnd(int32_t rank, const absl::Status& status) override {
    owner_->HandleStreamEnd(this, rank, status);
  }

  std::string Name(int32_t rank) const {
    return absl::StrCat("rank ", rank, " (", ranks_[rank].address, ")");
  }

  GrpcDispatcher* const owner_;
  const GroupReady group_;
  const std::vector<Rank> ranks_;
  std::vector<std::shared_ptr<RunStream>> streams_;
  int32_t num_open_;  // streams that gRPC has not ended
  bool over_ = false;
  StepMerger merger_;
  StepWatchdog watchdog_;
  std::deque<int64_t> num_step_tokens_;  // of the steps in flight
};

GrpcDispatcher::GrpcDispatcher(const StepWatchdog::Options& watchdog,
                               const Clock* clock, DispatchListener* listener,
                               StepMetrics* metrics)
    : watchdog_options_(watchdog),
      clock_(clock),
      listener_(listener),
      metrics_(metrics) {}

GrpcDispatcher::~GrpcDispatcher() {
  absl::MutexLock lock(&mutex_);
  for (const auto& link : links_) {
    link->over_ = true;  // nobody is to hear of it any more
    for (const auto& stream : link->streams_) stream->Cancel();
  }
  events_.clear();
  mutex_.Await(absl::Condition(
      +[](GrpcDispatcher* self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mutex_) {
        return !self->delivering_ &&
               std::all_of(
                   self->links_.begin(), self->links_.end(),
                   [](const auto& link) { return link->num_open_ == 0; });
      },
      this));
}

void GrpcDispatcher::Open(const GroupReady& group, std::vector<Rank> ranks,
                          absl::Duration largest_step) {
  StepWatchdog::Options watchdog = watchdog_options_;
  watchdog.largest_step = largest_step;
  {
    absl::MutexLock lock(&mutex_);
    // Events name their link, so links go only when there are none.
    if (events_.empty() && !delivering_) {
      links_.erase(std::remove_if(links_.begin(), links_.end(),
                                  [](const auto& link) {
                                    return link->over_ && link->num_open_ == 0;
                                  }),
                   links_.end());
    }
    links_.push_back(
        std::make_unique<Link>(this, group, std::move(ranks), watchdog));
    Link* link = links_.back().get();
    for (size_t rank = 0; rank < link->ranks_.size(); ++rank) {
      link->streams_.push_back(RunStream::Open(
          link->ranks_[rank].channel, static_cast<int32_t>(rank), link));
    }
    events_.push_back([this, group] { listener_->OnGroupReady(group); });
  }
  DeliverEvents();
}

void GrpcDispatcher::Send(const StepPlan& plan) {
  auto message = std::make_shared<v1::StepPlan>();
  EncodeStepPlan(plan, message.get());
  absl::MutexLock lock(&mutex_);
  for (const auto& link : links_) {
    if (link->over_ || link->group_.group_epoch != plan.identity.group_epoch) {
      continue;
    }
    link->merger_.ExpectStep(plan.identity.step_id);
    link->watchdog_.OnSent(plan.identity.step_id, clock_->Now());
    link->num_step_tokens_.push_back(NumTokens(plan));
    for (const auto& stream : link->streams_) stream->Send(message);
  }
}

void GrpcDispatcher::HandleResult(Link* link, int32_t rank, StepResult result) {
  {
    absl::MutexLock lock(&mutex_);
    if (link->over_) return;
    absl::StatusOr<std::optional<StepResult>> merged =
        link->merger_.Add(rank, std::move(result));
    if (!merged.ok()) {
      End(link, merged.status());
    } else if (merged->has_value()) {
      link->watchdog_.OnDone(clock_->Now());
      const int64_t num_tokens = link->num_step_tokens_.front();
      link->num_step_tokens_.pop_front();
      if (metrics_ != nullptr) {
        metrics_->ObserveStep(absl::Microseconds((*merged)->step_us),
                              num_tokens);
      }
      // std::function must be copyable, so the result moves by a pointer.
      auto whole = std::make_shared<StepResult>(std::move(**merged));
      events_.push_back([this, link, whole] {
        {
          absl::MutexLock lock(&mutex_);
          if (link->over_) return;  // ended since: its results do not count
        }
        listener_->OnStepResult(std::move(*whole));
      });
    }
  }
  DeliverEvents();
}

void GrpcDispatcher::HandleStreamEnd(Link* link, int32_t rank,
                                     const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    const absl::string_view why =
        status.ok() ? "it ended its Run stream" : status.message();
    End(link, absl::Status(
                  status.ok() ? absl::StatusCode::kUnavailable : status.code(),
                  absl::StrCat(link->Name(rank), " is lost: ", why)));
  }
  DeliverEvents();
  // Last: from here on the destructor may pass.
  absl::MutexLock lock(&mutex_);
  --link->num_open_;
}

bool GrpcDispatcher::End(Link* link, const absl::Status& cause) {
  if (link->over_) return false;
  link->over_ = true;
  for (const auto& stream : link->streams_) stream->Cancel();
  if (metrics_ != nullptr) metrics_->CountGroupLost();
  const Epoch epoch = link->group_.group_epoch;
  events_.push_back(
      [this, epoch, cause] { listener_->OnGroupLost(epoch, cause); });
  return true;
}

void GrpcDispatcher::Close(Epoch group_epoch, const absl::Status& cause) {
  bool has_ended = false;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& link : links_) {
      if (link->group_.group_epoch != group_epoch) continue;
      has_ended |= End(link.get(), cause);
    }
  }
  if (has_ended) DeliverEvents();
}

void GrpcDispatcher::CheckWatchdog() {
  bool has_ended = false;
  {
    absl::MutexLock lock(&mutex_);
    const absl::Time now = clock_->Now();
    for (const auto& link : links_) {
      if (link->over_ || !link->watchdog_.CheckExpired(now)) continue;
      has_ended |= End(
          link.get(),
          absl::UnavailableError(absl::StrCat(
              link->Name(link->merger_.SlowestRank()),
              " has not answered step ", link->watchdog_.oldest_step().value(),
              " within ", absl::FormatDuration(link->watchdog_.Limit()))));
    }
  }
  if (has_ended) DeliverEvents();
}

void GrpcDispatcher::DeliverEvents() {
  absl::MutexLock lock(&mutex_);
  if (delivering_) return;
  delivering_ = true;
  while (!events_.empty()) {
    const std::function<void()> event = std::move(events_.front());
    events_.pop_front();
    mutex_.Unlock();
    event();
    mutex_.Lock();
  }
  delivering_ = false;
}

}  // namespace quire
