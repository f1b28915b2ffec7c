// SPDX-License-Identifier: Apache-2.0
#include "coordinator/cluster/rendezvous_board.h"

#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using Result = std::optional<absl::StatusOr<RendezvousBoard::Values>>;

RendezvousBoard::Callback Into(Result* result) {
  return [result](absl::StatusOr<RendezvousBoard::Values> values) {
    EXPECT_FALSE(result->has_value()) << "called back twice";
    *result = std::move(values);
  };
}

TEST(RendezvousBoardTest, AnswersAtOnceWhatIsThere) {
  RendezvousBoard board;
  ASSERT_TRUE(board.Put(0, Epoch(1), "a", "1").ok());
  ASSERT_TRUE(board.Put(0, Epoch(1), "b", "2").ok());
  Result result;
  board.Get(0, Epoch(1), {"b", "a"}, Into(&result));
  ASSERT_TRUE(result.has_value());
  EXPECT_THAT(**result, testing::ElementsAre("2", "1"));
}

TEST(RendezvousBoardTest, AnswersWhenTheLastKeyCame) {
  RendezvousBoard board;
  Result result;
  board.Get(0, Epoch(1), {"a", "b"}, Into(&result));
  ASSERT_TRUE(board.Put(0, Epoch(1), "a", "1").ok());
  EXPECT_FALSE(result.has_value());
  ASSERT_TRUE(board.Put(0, Epoch(2), "b", "another epoch's").ok());
  ASSERT_TRUE(board.Put(1, Epoch(1), "b", "another group's").ok());
  EXPECT_FALSE(result.has_value());
  ASSERT_TRUE(board.Put(0, Epoch(1), "b", "2").ok());
  ASSERT_TRUE(result.has_value());
  EXPECT_THAT(**result, testing::ElementsAre("1", "2"));
}

TEST(RendezvousBoardTest, EndOfEpochFailsThoseWhoWait) {
  RendezvousBoard board;
  Result waiting, later;
  board.Get(0, Epoch(1), {"a"}, Into(&waiting));
  board.EndEpoch(0, Epoch(1));
  ASSERT_TRUE(waiting.has_value());
  EXPECT_EQ(waiting->status().code(), absl::StatusCode::kFailedPrecondition);
  board.Get(0, Epoch(2), {"a"}, Into(&later));
  EXPECT_FALSE(later.has_value());
}

TEST(RendezvousBoardTest, CancelledWaitHearsNothing) {
  RendezvousBoard board;
  Result result;
  const uint64_t wait_id = board.Get(0, Epoch(1), {"a"}, Into(&result));
  EXPECT_TRUE(board.Cancel(wait_id));
  EXPECT_FALSE(board.Cancel(wait_id));
  ASSERT_TRUE(board.Put(0, Epoch(1), "a", "1").ok());
  EXPECT_FALSE(result.has_value());
}

TEST(RendezvousBoardTest, FullBoardRefuses) {
  RendezvousBoard board;
  const std::string large(RendezvousBoard::kMaxBytes / 2, 'x');
  ASSERT_TRUE(board.Put(0, Epoch(1), "a", large).ok());
  EXPECT_EQ(board.Put(0, Epoch(1), "b", large).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(board.Put(0, Epoch(2), "b", large).ok());
}

}  // namespace
}  // namespace quire
