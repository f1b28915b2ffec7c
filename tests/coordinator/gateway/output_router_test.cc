// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/output_router.h"

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/fake_engine.h"

namespace quire {
namespace {

class RecordingSink final : public OutputSink {
 public:
  explicit RecordingSink(bool is_quick = false,
                         std::optional<size_t> lane = std::nullopt)
      : is_quick_(is_quick), lane_(lane) {}

  void OnOutput(SequenceOutput output) override {
    absl::MutexLock lock(&mutex_);
    offsets_.push_back(output.token_offset);
    thread_ = std::this_thread::get_id();
  }
  bool is_quick() const override { return is_quick_; }
  std::optional<size_t> lane() const override { return lane_; }
  // Who handed over the latest output.
  std::thread::id thread() const {
    absl::MutexLock lock(&mutex_);
    return thread_;
  }
  std::vector<int64_t> Await(size_t num_outputs) const {
    const auto enough = [this, num_outputs]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(
                            mutex_) { return offsets_.size() >= num_outputs; };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&enough));
    return offsets_;
  }

 private:
  const bool is_quick_;
  const std::optional<size_t> lane_;
  mutable absl::Mutex mutex_;
  std::vector<int64_t> offsets_ ABSL_GUARDED_BY(mutex_);
  std::thread::id thread_ ABSL_GUARDED_BY(mutex_);
};

// Keeps its thread until it is let go.
class StuckSink final : public OutputSink {
 public:
  void OnOutput(SequenceOutput) override {
    entered.Notify();
    may_go.WaitForNotification();
  }

  absl::Notification entered;
  absl::Notification may_go;
};

SequenceOutput Output(RequestKey key, int64_t offset) {
  SequenceOutput output;
  output.request = key;
  output.token_offset = offset;
  return output;
}

TEST(OutputRouterTest, KeepsEachRequestsOrder) {
  OutputRouter router(/*num_threads=*/3);
  FakeEngine engine(&router);
  constexpr int kRequests = 7;
  constexpr int kSteps = 200;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<RequestKey> keys;
  for (int i = 0; i < kRequests; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    auto key = router.Submit({}, sinks.back(), &engine);
    ASSERT_TRUE(key.ok()) << key.status();
    keys.push_back(*key);
  }
  for (int step = 0; step < kSteps; ++step) {
    std::vector<SequenceOutput> outputs;
    for (const RequestKey key : keys) outputs.push_back(Output(key, step));
    router.OnOutputs(std::move(outputs));
  }
  std::vector<int64_t> in_order;
  for (int step = 0; step < kSteps; ++step) in_order.push_back(step);
  for (const auto& sink : sinks) EXPECT_EQ(sink->Await(kSteps), in_order);
}

TEST(OutputRouterTest, KeepsTheOrderOfOutputsAloneAndTogether) {
  OutputRouter router(/*num_threads=*/2);
  FakeEngine engine(&router);
  auto quick = std::make_shared<RecordingSink>(/*is_quick=*/true);
  auto other = std::make_shared<RecordingSink>(/*is_quick=*/true);
  const RequestKey key = *router.Submit({}, quick, &engine);
  const RequestKey other_key = *router.Submit({}, other, &engine);
  std::vector<int64_t> in_order;
  for (int step = 0; step < 2000; ++step) {
    std::vector<SequenceOutput> outputs = {Output(key, step)};
    if (step % 3 == 0) outputs.push_back(Output(other_key, step));
    router.OnOutputs(std::move(outputs));
    in_order.push_back(step);
  }
  EXPECT_EQ(quick->Await(in_order.size()), in_order);
}

TEST(OutputRouterTest, ASinkHearsFromTheLaneThatItWants) {
  std::vector<std::unique_ptr<PlainGate>> gates;
  std::vector<LaneGate*> borrowed;
  for (int i = 0; i < 3; ++i) {
    gates.push_back(std::make_unique<PlainGate>());
    borrowed.push_back(gates.back().get());
  }
  OutputRouter router(borrowed);
  FakeEngine engine(&router);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<SequenceOutput> outputs;
  for (const size_t lane : {2, 0, 2, 0, 2}) {
    sinks.push_back(std::make_shared<RecordingSink>(/*is_quick=*/false, lane));
    outputs.push_back(Output(*router.Submit({}, sinks.back(), &engine), 0));
  }
  router.OnOutputs(std::move(outputs));
  for (const auto& sink : sinks) sink->Await(1);
  EXPECT_EQ(sinks[0]->thread(), sinks[2]->thread());
  EXPECT_EQ(sinks[0]->thread(), sinks[4]->thread());
  EXPECT_EQ(sinks[1]->thread(), sinks[3]->thread());
  EXPECT_NE(sinks[0]->thread(), sinks[1]->thread());
}

TEST(OutputRouterTest, AQuickSinkHearsALoneOutputAtOnce) {
  OutputRouter router(/*num_threads=*/2);
  FakeEngine engine(&router);
  auto quick = std::make_shared<RecordingSink>(/*is_quick=*/true);
  const RequestKey key = *router.Submit({}, quick, &engine);
  for (int i = 0; i < 3; ++i) {
    router.OnOutputs({Output(key, i)});
    EXPECT_EQ(quick->Await(0).size(), i + 1);
    EXPECT_EQ(quick->thread(), std::this_thread::get_id());
  }
}

TEST(OutputRouterTest, OthersNeverKeepTheEngine) {
  OutputRouter router(/*num_threads=*/1);
  FakeEngine engine(&router);
  auto stuck = std::make_shared<StuckSink>();
  auto quick = std::make_shared<RecordingSink>(/*is_quick=*/true);
  const RequestKey stuck_key = *router.Submit({}, stuck, &engine);
  const RequestKey key = *router.Submit({}, quick, &engine);
  router.OnOutputs({Output(stuck_key, 0)});
  stuck->entered.WaitForNotification();
  router.OnOutputs({Output(key, 0)});  // behind it
  EXPECT_EQ(quick->Await(0).size(), 0u);
  stuck->may_go.Notify();
  EXPECT_EQ(quick->Await(1).size(), 1u);
  EXPECT_NE(quick->thread(), std::this_thread::get_id());
}

TEST(OutputRouterTest, OutputInsideSubmitFindsItsSink) {
  OutputRouter router(/*num_threads=*/1);
  FakeEngine engine(&router);
  for (int i = 0; i < 100; ++i) {
    engine.AnswerInsideSubmit(Output(RequestKey(0), i));
    auto sink = std::make_shared<RecordingSink>(/*is_quick=*/i % 2 == 0);
    ASSERT_TRUE(router.Submit({}, sink, &engine).ok());
    EXPECT_THAT(sink->Await(1), testing::ElementsAre(i));
  }
}

TEST(OutputRouterTest, RemovedAndUnknownKeysAreIgnored) {
  OutputRouter router(/*num_threads=*/1);
  FakeEngine engine(&router);
  auto gone = std::make_shared<RecordingSink>();
  auto stays = std::make_shared<RecordingSink>();
  const RequestKey gone_key = *router.Submit({}, gone, &engine);
  const RequestKey key = *router.Submit({}, stays, &engine);
  router.Remove(gone_key);
  router.OnOutputs(
      {Output(gone_key, 0), Output(RequestKey(99), 0), Output(key, 0)});
  EXPECT_EQ(stays->Await(1).size(), 1u);
  EXPECT_EQ(gone->Await(0).size(), 0u);
  EXPECT_EQ(gone.use_count(), 1);  // the router holds no share
}

TEST(OutputRouterTest, DeliversWhatItHasBeforeItStops) {
  for (int round = 0; round < 200; ++round) {
    auto one = std::make_shared<RecordingSink>();
    auto other = std::make_shared<RecordingSink>();
    {
      OutputRouter router(/*num_threads=*/1);
      FakeEngine engine(&router);
      const RequestKey key = *router.Submit({}, one, &engine);
      const RequestKey other_key = *router.Submit({}, other, &engine);
      router.OnOutputs({Output(key, 0), Output(other_key, 0)});
      router.OnOutputs({Output(key, 1), Output(other_key, 1)});
    }
    EXPECT_EQ(one->Await(0).size(), 2u);
    EXPECT_EQ(other->Await(0).size(), 2u);
  }
}

TEST(OutputRouterTest, RefusedRequestLeavesNothingBehind) {
  OutputRouter router(/*num_threads=*/1);
  FakeEngine engine(&router);
  engine.SetSubmitStatus(absl::ResourceExhaustedError("full"));
  auto sink = std::make_shared<RecordingSink>();
  EXPECT_EQ(router.Submit({}, sink, &engine).status(),
            absl::ResourceExhaustedError("full"));
  EXPECT_EQ(sink.use_count(), 1);
}

}  // namespace
}  // namespace quire
