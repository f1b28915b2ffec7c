// SPDX-License-Identifier: Apache-2.0
//
// Groups whose pools are not alike: who gets a request that does not fit all.
#include <vector>

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

}  // namespace
}  // namespace quire
