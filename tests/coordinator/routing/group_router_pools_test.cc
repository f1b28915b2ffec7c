// SPDX-License-Identifier: Apache-2.0
//
// Groups whose pools are not alike: who gets a request that does not fit all.
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "tests/coordinator/routing/group_router_fixture.h"

namespace quire {
namespace {

// 75 blocks in all, of which the prompt takes 25.
EngineRequest LongRequest() { return MakeRequest("long", 100, 200, 1); }

class GroupRouterPoolsTest : public GroupRouterTest {
 protected:
  int32_t NumBlocksOf(int32_t g) const override { return num_blocks_.at(g); }

  void ExpectServedByTheSecond() {
    const EngineRequest request = LongRequest();
    EXPECT_EQ(WaitForEnd(MustSubmit(request)).tokens, ExpectedStream(request));
    WaitUntilTidy();
    EXPECT_EQ(engines_[1]->Stats().num_finished, 1);
  }

  std::vector<int32_t> num_blocks_;
};

TEST_F(GroupRouterPoolsTest, ARequestGoesWhereItFits) {
  num_blocks_ = {40, 200};
  Start(2);
  ExpectServedByTheSecond();
}

TEST_F(GroupRouterPoolsTest, ARequestGoesWhereItFitsOutOfTurn) {
  num_blocks_ = {40, 200};
  Start(2, RoutingPolicy::kRoundRobin);
  ExpectServedByTheSecond();
}

TEST_F(GroupRouterPoolsTest, OneThatFitsNowhereIsRefusedWithNumbers) {
  num_blocks_ = {40, 60};
  Start(2);
  EXPECT_EQ(router_->Submit(LongRequest()).status().message(),
            "prompt and max_tokens, 300 tokens, need 75 KV blocks; the pool "
            "has 40");
}

TEST_F(GroupRouterPoolsTest, AStreamMovesWhereItFits) {
  num_blocks_ = {200, 40, 200};
  Start(3);
  const EngineRequest request = LongRequest();
  const RequestKey key = MustSubmit(request);
  WaitForTokens(key, 3);
  ASSERT_EQ(engines_[0]->Stats().num_running, 1);
  Lose(0);
  EXPECT_EQ(NumAdopted(2), 1);
  const HeardStream heard = WaitForEnd(key);
  EXPECT_TRUE(heard.status.ok()) << heard.status;
  EXPECT_EQ(heard.tokens, ExpectedStream(request));
  WaitUntilTidy();
}

// Hands on what the first engine says, but that it has no workers any more only
// when it may.
class HeldWatcher final : public EngineWatcher {
 public:
  explicit HeldWatcher(EngineWatcher* next) : next_(next) {}

  void Release() { may_tell_.Notify(); }

  void OnReadiness(int32_t engine_idx, bool is_ready) override {
    if (!is_ready) may_tell_.WaitForNotification();
    next_->OnReadiness(engine_idx, is_ready);
  }
  void OnProgress(int32_t engine_idx, absl::Span<const RequestKey> begun,
                  absl::Span<const RequestEnd> ended) override {
    next_->OnProgress(engine_idx, begun, ended);
  }
  void OnStranded(int32_t engine_idx, const absl::Status& cause,
                  std::vector<MovedGroup> groups) override {
    next_->OnStranded(engine_idx, cause, std::move(groups));
  }
  void OnStray(int32_t engine_idx, RequestKey key,
               absl::FunctionRef<void(EngineClient*)> repeat) override {
    next_->OnStray(engine_idx, key, repeat);
  }

 private:
  EngineWatcher* const next_;
  absl::Notification may_tell_;
};

class GroupRouterReadinessTest : public GroupRouterTest {
 protected:
  EngineSeat SeatOf(int32_t g) override {
    EngineSeat seat = GroupRouterTest::SeatOf(g);
    if (g != 0) return seat;
    watcher_ = std::make_unique<HeldWatcher>(seat.watcher);
    seat.watcher = watcher_.get();
    return seat;
  }

  std::unique_ptr<HeldWatcher> watcher_;
};

TEST_F(GroupRouterReadinessTest, NobodyMeetsAnEngineThatHasJustLostItsWorkers) {
  Start(2);
  engines_[0]->OnGroupLost(Epoch(epochs_[0]),
                           absl::UnavailableError("rank 0 is lost"));
  while (engines_[0]->Stats().ready) {
  }
  const EngineRequest request = MakeRequest("a", 10, 20, 1);
  const auto key = router_->Submit(request);
  EXPECT_TRUE(key.ok()) << key.status();
  watcher_->Release();
  Settle();
  if (key.ok()) {
    EXPECT_EQ(WaitForEnd(*key).tokens, ExpectedStream(request));
  }
  WaitUntilTidy();
}

}  // namespace
}  // namespace quire
