// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/shm_segment.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(ShmSegmentTest, StartsAsZerosAndIsShared) {
  auto one = ShmSegment::Create(10'000, /*rank=*/0);
  ASSERT_TRUE(one.ok()) << one.status();
  auto other = ShmSegment::Open((*one)->name(), 10'000, /*rank=*/1);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ((*other)->data()[9'999], 0);
  (*one)->data()[9'999] = 7;
  EXPECT_EQ((*other)->data()[9'999], 7);
}

TEST(ShmSegmentTest, ARankThatClosedItIsNotAlive) {
  auto one = ShmSegment::Create(100, /*rank=*/0);
  ASSERT_TRUE(one.ok());
  EXPECT_FALSE((*one)->IsAlive(1));
  {
    auto other = ShmSegment::Open((*one)->name(), 100, /*rank=*/1);
    ASSERT_TRUE(other.ok());
    EXPECT_TRUE((*one)->IsAlive(1));
    EXPECT_TRUE((*other)->IsAlive(0));
  }
  EXPECT_FALSE((*one)->IsAlive(1));
}

TEST(ShmSegmentTest, AKilledProcessIsNotAliveThoughNobodyWaitedForIt) {
  auto one = ShmSegment::Create(100, /*rank=*/0);
  ASSERT_TRUE(one.ok());
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto other = ShmSegment::Open((*one)->name(), 100, /*rank=*/1);
    const char byte = other.ok() ? 'y' : 'n';
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    while (true) pause();
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  EXPECT_TRUE((*one)->IsAlive(1));
  ASSERT_EQ(kill(child, SIGKILL), 0);
  siginfo_t info;  // dead, but still a zombie: WNOWAIT leaves it so
  ASSERT_EQ(waitid(P_PID, child, &info, WEXITED | WNOWAIT), 0);
  EXPECT_FALSE((*one)->IsAlive(1));
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
}

TEST(ShmSegmentTest, ARankTakenTwiceAndANameThatIsGoneAreUnavailable) {
  auto one = ShmSegment::Create(100, /*rank=*/0);
  ASSERT_TRUE(one.ok());
  EXPECT_TRUE(absl::IsUnavailable(
      ShmSegment::Open((*one)->name(), 100, /*rank=*/0).status()));
  (*one)->Unlink();
  EXPECT_TRUE(absl::IsUnavailable(
      ShmSegment::Open((*one)->name(), 100, /*rank=*/1).status()));
}

TEST(ShmSegmentTest, MoreThanThereIsIsResourceExhausted) {
  EXPECT_TRUE(absl::IsResourceExhausted(
      ShmSegment::Create(int64_t{1} << 46, /*rank=*/0).status()));
}

}  // namespace
}  // namespace quire
