// SPDX-License-Identifier: Apache-2.0
#include "coordinator/routing/routed_requests.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(RoutedRequestsTest, ARequestIsPendingThenDecodesThenIsGone) {
  RoutedRequests requests(2);
  requests.Add(RequestKey(7), "a", 1, /*num_tokens=*/100, /*num_seqs=*/3);
  EXPECT_EQ(requests.load(1).num_pending_seqs, 3);
  EXPECT_EQ(requests.load(1).num_pending_tokens, 100);
  EXPECT_EQ(requests.load(1).num_routed, 1);
  EXPECT_EQ(requests.load(0).num_pending_seqs, 0);
  EXPECT_EQ(requests.GroupOf(RequestKey(7)), 1);
  EXPECT_EQ(requests.Find("a"), RequestKey(7));

  requests.Begin(RequestKey(7));
  requests.Begin(RequestKey(7));  // once counts
  EXPECT_EQ(requests.load(1).num_pending_tokens, 0);
  EXPECT_EQ(requests.load(1).num_pending_seqs, 0);
  EXPECT_EQ(requests.load(1).num_decodes, 3);

  requests.End(RequestKey(7), 60);
  EXPECT_EQ(requests.load(1).num_decodes, 0);
  EXPECT_FALSE(requests.GroupOf(RequestKey(7)).has_value());
  EXPECT_FALSE(requests.Find("a").has_value());
  requests.End(RequestKey(7), 60);  // unknown keys are ignored
  requests.Begin(RequestKey(7));
}

TEST(RoutedRequestsTest, AMoveTakesTheWorkAlong) {
  RoutedRequests requests(2);
  requests.Add(RequestKey(1), "a", 0, 100, 1);
  requests.Begin(RequestKey(1));
  requests.Move(RequestKey(1), 1, 130);
  EXPECT_EQ(requests.load(0).num_decodes, 0);
  EXPECT_EQ(requests.load(1).num_pending_seqs, 1);
  EXPECT_EQ(requests.load(1).num_pending_tokens, 130);
  EXPECT_EQ(requests.GroupOf(RequestKey(1)), 1);
  requests.Begin(RequestKey(1));
  EXPECT_EQ(requests.load(1).num_decodes, 1);
}

TEST(RoutedRequestsTest, LengthsOfOutputsAreLearned) {
  RoutedRequests requests(1);
  EXPECT_EQ(requests.mean_output_tokens(),
            RoutedRequests::kFirstMeanOutputTokens);
  for (uint64_t i = 1; i <= 1000; ++i) {
    requests.Add(RequestKey(i), std::to_string(i), 0, 10, 2);
    requests.Begin(RequestKey(i));
    requests.End(RequestKey(i), 20);
  }
  EXPECT_NEAR(requests.mean_output_tokens(), 10, 0.01);
  // One that never began says nothing.
  requests.Add(RequestKey(2000), "x", 0, 10, 1);
  requests.End(RequestKey(2000), 0);
  EXPECT_NEAR(requests.mean_output_tokens(), 10, 0.01);
}

}  // namespace
}  // namespace quire
