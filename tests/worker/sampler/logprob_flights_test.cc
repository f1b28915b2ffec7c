// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/logprob_flights.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"

namespace quire {
namespace {

TokenLogprobs LogprobsOf(float logprob, const std::vector<int32_t>& top) {
  TokenLogprobs one = {};
  one.logprob = logprob;
  one.rank = 7;
  std::fill(std::begin(one.top_ids), std::end(one.top_ids), -1);
  for (size_t i = 0; i < top.size(); ++i) {
    one.top_ids[i] = top[i];
    one.top_logprobs[i] = logprob - static_cast<float>(i);
  }
  return one;
}

// Of a device that runs when the host waits.
TEST(LogprobFlightsTest, TwoStepsMayBeOnTheirWay) {
  FakeBackend backend;
  backend.set_late();
  LogprobFlights flights(&backend);
  ASSERT_TRUE(flights.Reserve(3).ok());
  const int64_t allocated = backend.allocated_bytes();
  std::vector<TokenLogprobs> written = {LogprobsOf(-1, {4, 5}),
                                        LogprobsOf(-2, {})};
  for (int32_t flight = 0; flight < 2; ++flight) {
    ASSERT_TRUE(flights.Begin(flight, {{0, 2}, {3 + flight, 1}}).ok());
    // The second step writes over the first one's, when its turn comes.
    TokenLogprobs* const to = flights.on_device();
    const TokenLogprobs first = written[flight];
    backend.Enqueue([=] {
      to[0] = first;
      to[1] = LogprobsOf(-9, {8, 9});
    });
    ASSERT_TRUE(flights.Fetch(flight).ok());
    ASSERT_TRUE(backend.Mark(flight).ok());
  }
  ASSERT_TRUE(backend.WaitForMark(1).ok());
  EXPECT_EQ(backend.allocated_bytes(), allocated);
  for (int32_t flight = 0; flight < 2; ++flight) {
    std::vector<SampledLogprobs> got;
    flights.Read(flight, &got);
    ASSERT_EQ(got.size(), 2u);
    EXPECT_EQ(got[0].sample_idx, 0);
    EXPECT_EQ(got[0].logprob, written[flight].logprob);
    EXPECT_EQ(got[0].rank, 7);
    // As many as there are, and as were asked for.
    EXPECT_EQ(got[0].top.size(), flight == 0 ? 2u : 0u);
    EXPECT_EQ(got[1].sample_idx, 3 + flight);
    ASSERT_EQ(got[1].top.size(), 1u);
    EXPECT_EQ(got[1].top[0].token_id, 8);
    EXPECT_EQ(got[1].top[0].logprob, -9);
  }
}

TEST(LogprobFlightsTest, AStepWithoutRowsHasNone) {
  FakeBackend backend;
  LogprobFlights flights(&backend);
  ASSERT_TRUE(flights.Begin(0, {{1, 0}}).ok());
  *flights.on_device() = LogprobsOf(-1, {});
  ASSERT_TRUE(flights.Fetch(0).ok());
  ASSERT_TRUE(flights.Begin(0, {}).ok());
  ASSERT_TRUE(flights.Fetch(0).ok());
  std::vector<SampledLogprobs> got;
  flights.Read(0, &got);
  flights.Read(1, &got);
  EXPECT_TRUE(got.empty());
}

}  // namespace
}  // namespace quire
