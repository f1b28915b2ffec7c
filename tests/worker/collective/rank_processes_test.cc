// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/collective/rank_processes.h"

#include <signal.h>
#include <unistd.h>

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(RankProcessesTest, EveryRankIsAProcessThatMeetsTheOthersOnTheBoard) {
  const auto said = RunRankProcesses(
      4, [](int32_t rank, KeyBoard* board) -> absl::StatusOr<std::string> {
        const auto key = [](int32_t of) { return absl::StrCat("pid/", of); };
        absl::Status status = board->Put(key(rank), absl::StrCat(getpid()));
        if (!status.ok()) return status;
        const auto peer = board->Get({key((rank + 1) % 4)}, absl::Minutes(1));
        if (!peer.ok()) return peer.status();
        return absl::StrCat(getpid(), " ", peer->front());
      });
  ASSERT_TRUE(said.ok()) << said.status();
  ASSERT_EQ(said->size(), 4);
  const std::set<std::string> different(said->begin(), said->end());
  EXPECT_EQ(different.size(), 4);
  for (int rank = 0; rank < 4; ++rank) {
    const std::string& next = (*said)[(rank + 1) % 4];
    EXPECT_TRUE(absl::EndsWith(
        (*said)[rank], absl::StrCat(" ", next.substr(0, next.find(' ')))))
        << (*said)[rank];
  }
}

TEST(RankProcessesTest, LongAnswersComeWhole) {
  const std::string text(1 << 20, 'x');
  const auto said = RunRankProcesses(
      2, [&](int32_t rank, KeyBoard*) -> absl::StatusOr<std::string> {
        return absl::StrCat(text, rank);
      });
  ASSERT_TRUE(said.ok()) << said.status();
  EXPECT_EQ((*said)[1], text + "1");
}

TEST(RankProcessesTest, ARankThatFailsEndsThoseThatWaitForIt) {
  const auto said = RunRankProcesses(
      2, [](int32_t rank, KeyBoard*) -> absl::StatusOr<std::string> {
        if (rank == 1) return absl::InternalError("not today");
        while (true) pause();
      });
  EXPECT_EQ(said.status().message(), "rank 1 failed");
}

TEST(RankProcessesTest, ARankThatIsKilledIsNamed) {
  const auto said = RunRankProcesses(
      2, [](int32_t rank, KeyBoard*) -> absl::StatusOr<std::string> {
        if (rank == 0) kill(getpid(), SIGKILL);
        while (true) pause();
      });
  EXPECT_EQ(said.status().message(), "rank 0 ended by signal 9");
}

}  // namespace
}  // namespace quire
