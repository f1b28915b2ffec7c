// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/runner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace quire {
namespace {

constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);

}  // namespace

LoadRunner::LoadRunner(LoadClient* client, Clock* clock, Progress* progress)
    : client_(client), clock_(clock), progress_(progress) {}

RunResult LoadRunner::Run(std::vector<PlannedCall> calls,
                          int64_t max_concurrency) {
  RunResult result;
  result.start = clock_->Now();
  const auto has_room = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return is_interrupted_ || max_concurrency_ == 0 ||
           num_in_flight_ < max_concurrency_;
  };
  const auto is_idle = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return num_in_flight_ == 0;
  };
  {
    absl::MutexLock lock(&mutex_);
    num_planned_ = static_cast<int64_t>(calls.size());
    max_concurrency_ = max_concurrency;
  }
  for (PlannedCall& planned : calls) {
    planned.call.arrival = result.start + planned.arrival;
    {
      absl::MutexLock lock(&mutex_);
      Wait(absl::Condition(&is_interrupted_), planned.call.arrival);
      Wait(absl::Condition(&has_room), absl::InfiniteFuture());
      if (is_interrupted_) break;
      ++num_in_flight_;
    }
    client_->Start(std::move(planned.call),
                   [this](RequestRecord record) { Done(std::move(record)); });
  }
  absl::MutexLock lock(&mutex_);
  if (is_interrupted_) {
    // Once more, for a request that was being sent meanwhile.
    mutex_.Unlock();
    client_->CancelAll();
    mutex_.Lock();
  }
  Wait(absl::Condition(&is_idle), absl::InfiniteFuture());
  result.end = clock_->Now();
  result.is_interrupted = is_interrupted_;
  result.records = std::move(records_);
  std::sort(result.records.begin(), result.records.end(),
            [](const RequestRecord& a, const RequestRecord& b) {
              return a.idx < b.idx;
            });
  if (progress_ != nullptr) {
    ShowProgress(static_cast<int64_t>(result.records.size()));
    progress_->Finish();
  }
  return result;
}

void LoadRunner::Interrupt() {
  {
    absl::MutexLock lock(&mutex_);
    is_interrupted_ = true;
  }
  client_->CancelAll();
}

void LoadRunner::Wait(const absl::Condition& condition, absl::Time deadline) {
  while (true) {
    const absl::Time slice =
        std::min(deadline, clock_->Now() + kProgressInterval);
    if (clock_->AwaitUntil(&mutex_, condition, slice)) return;
    if (progress_ != nullptr) {
      progress_->Update(
          records_.size(), num_planned_,
          absl::StrCat(num_in_flight_, " running, ", num_failed_, " failed"));
    }
    if (slice == deadline) return;
  }
}

void LoadRunner::ShowProgress(int64_t num_done) {
  progress_->Update(
      num_done, num_planned_,
      absl::StrCat(num_in_flight_, " running, ", num_failed_, " failed"));
}

void LoadRunner::Done(RequestRecord record) {
  absl::MutexLock lock(&mutex_);
  --num_in_flight_;
  if (record.outcome == RequestOutcome::kFailed) ++num_failed_;
  records_.push_back(std::move(record));
}

}  // namespace quire
