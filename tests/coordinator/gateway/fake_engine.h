// SPDX-License-Identifier: Apache-2.0
//
// An engine whose outputs a test writes by hand.
#ifndef TESTS_COORDINATOR_GATEWAY_FAKE_ENGINE_H_
#define TESTS_COORDINATOR_GATEWAY_FAKE_ENGINE_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/engine/engine_client.h"

namespace quire {

// Thread-safe.
class FakeEngine final : public EngineClient {
 public:
  explicit FakeEngine(OutputListener* listener = nullptr)
      : listener_(listener) {}

  absl::StatusOr<RequestKey> Submit(EngineRequest request) override {
    std::vector<SequenceOutput> early;
    RequestKey key;
    {
      absl::MutexLock lock(&mutex_);
      if (request.request_id == held_request_) {
        is_holding_ = true;
        mutex_.Await(absl::Condition(
            +[](std::string* held) { return held->empty(); }, &held_request_));
      }
      if (!submit_status_.ok()) return submit_status_;
      key = RequestKey(requests_.size() + 1);
      early = std::exchange(early_, {});
      requests_.push_back(std::move(request));
    }
    for (SequenceOutput& output : early) output.request = key;
    if (!early.empty()) listener_->OnOutputs(std::move(early));
    return key;
  }

  void Finish(RequestKey request, FinishReason reason) override {
    absl::MutexLock lock(&mutex_);
    ++num_finishing_;
    mutex_.Await(absl::Condition(&may_finish_));
    finished_[request.value()] = reason;
  }

  void FinishSequence(RequestKey request, int32_t index) override {
    absl::MutexLock lock(&mutex_);
    finished_sequences_.push_back({request.value(), index});
  }

  void SetMask(RequestKey request, int32_t index, int64_t num_outputs,
               TokenMask mask) override {
    absl::MutexLock lock(&mutex_);
    masks_.push_back({request.value(), index, num_outputs, std::move(mask)});
  }

  absl::StatusOr<RequestKey> Find(const std::string&) override {
    return absl::NotFoundError("not asked by the gateway");
  }

  absl::StatusOr<Timeline> Explain(const std::string& request_id) override {
    absl::MutexLock lock(&mutex_);
    const auto it = timelines_.find(request_id);
    if (it == timelines_.end()) return absl::NotFoundError("never heard of it");
    return it->second;
  }

  EngineInfo Info() const override {
    EngineInfo info;
    info.block_size = 16;
    info.num_blocks = 100;
    return info;
  }
  EngineStats Stats() const override {
    absl::MutexLock lock(&mutex_);
    return stats_;
  }

  void SetSubmitStatus(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    submit_status_ = status;
  }
  // Lets Submit of this request wait until it is called again, with "".
  void HoldSubmit(const std::string& request_id) {
    absl::MutexLock lock(&mutex_);
    held_request_ = request_id;
  }
  void AwaitHeldSubmit() const {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&is_holding_));
  }
  // This comes out before the next Submit returns.
  void AnswerInsideSubmit(SequenceOutput output) {
    absl::MutexLock lock(&mutex_);
    early_.push_back(std::move(output));
  }
  void SetTimeline(const Timeline& timeline) {
    absl::MutexLock lock(&mutex_);
    timelines_[timeline.request_id] = timeline;
  }
  void SetStats(const EngineStats& stats) {
    absl::MutexLock lock(&mutex_);
    stats_ = stats;
  }

  // Waits for request number `number`, from 1.
  EngineRequest AwaitRequest(size_t number) const {
    const auto there = [this, number]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return requests_.size() >= number;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&there));
    return requests_[number - 1];
  }
  // Waits until request number `number` is finished by the gateway.
  FinishReason AwaitFinish(uint64_t number) const {
    const auto there = [this, number]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return finished_.count(number) > 0;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&there));
    return finished_.at(number);
  }
  // (request, index) of sequences that the gateway finished, in order.
  std::vector<std::pair<uint64_t, int32_t>> AwaitFinishedSequences(
      size_t number) const {
    const auto there = [this, number]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return finished_sequences_.size() >= number;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&there));
    return finished_sequences_;
  }
  struct Mask {
    uint64_t request;
    int32_t index;
    int64_t num_outputs;
    TokenMask words;
  };
  // Waits for the number-th mask, from 1.
  Mask AwaitMask(size_t number) const {
    const auto there = [this, number]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return masks_.size() >= number;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&there));
    return masks_[number - 1];
  }
  size_t num_masks() const {
    absl::MutexLock lock(&mutex_);
    return masks_.size();
  }
  size_t num_requests() const {
    absl::MutexLock lock(&mutex_);
    return requests_.size();
  }
  // Lets Finish wait until it is allowed again.
  void AllowFinish(bool may_finish) {
    absl::MutexLock lock(&mutex_);
    may_finish_ = may_finish;
  }
  // Waits until Finish has been called so often.
  void AwaitFinishing(size_t number) const {
    const auto there = [this, number]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return num_finishing_ >= number;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&there));
  }
  size_t num_finished() const {
    absl::MutexLock lock(&mutex_);
    return finished_.size();
  }

  void Emit(SequenceOutput output) {
    std::vector<SequenceOutput> outputs;
    outputs.push_back(std::move(output));
    listener_->OnOutputs(std::move(outputs));
  }

 private:
  OutputListener* const listener_;
  mutable absl::Mutex mutex_;
  std::string held_request_ ABSL_GUARDED_BY(mutex_);
  bool is_holding_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status submit_status_ ABSL_GUARDED_BY(mutex_);
  std::vector<SequenceOutput> early_ ABSL_GUARDED_BY(mutex_);
  std::vector<EngineRequest> requests_ ABSL_GUARDED_BY(mutex_);
  size_t num_finishing_ ABSL_GUARDED_BY(mutex_) = 0;
  bool may_finish_ ABSL_GUARDED_BY(mutex_) = true;
  std::map<uint64_t, FinishReason> finished_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Timeline> timelines_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<uint64_t, int32_t>> finished_sequences_
      ABSL_GUARDED_BY(mutex_);
  std::vector<Mask> masks_ ABSL_GUARDED_BY(mutex_);
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_GATEWAY_FAKE_ENGINE_H_
