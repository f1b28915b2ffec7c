// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/group_launcher.h"

#include <thread>

#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/dispatch/fake_worker.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

constexpr Epoch kCoordinator(7);
constexpr Epoch kGroup(1);

TEST(GroupLauncherTest, CacheIsAsLargeAsThePoorestRankHolds) {
  FakeWorkerOptions rich, poor;
  rich.kv_bytes = 90'000;
  poor.kv_bytes = 40'999;
  FakeWorker first(rich), second(poor);
  GroupLauncher launcher({});
  absl::Mutex mutex;
  std::vector<std::string> phases[2];
  bool warming = false;
  LaunchObserver observer;
  observer.on_load = [&](int32_t rank, const std::string& phase, uint64_t,
                         uint64_t) {
    absl::MutexLock lock(&mutex);
    phases[rank].push_back(phase);
  };
  observer.on_warming = [&] { warming = true; };
  auto group = launcher.Launch({first.address(), second.address()},
                               kCoordinator, kGroup, observer);
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(group->ready.num_blocks, 40);
  EXPECT_EQ(first.num_allocated_blocks(), 40);
  EXPECT_EQ(second.num_allocated_blocks(), 40);
  EXPECT_EQ(group->largest_step, absl::Milliseconds(1));
  EXPECT_EQ(group->kv_bytes, 80'000u);
  EXPECT_TRUE(warming);
  EXPECT_THAT(phases[0], testing::ElementsAre("weights", "done"));
  EXPECT_THAT(phases[1], testing::ElementsAre("weights", "done"));
}

TEST(GroupLauncherTest, EveryRankGetsItsSwapSpaceAndTheSlowestSetsTheRates) {
  FakeWorkerOptions fast, slow;
  fast.swap_bytes_per_second = 9'000'000;
  slow.swap_bytes_per_second = 2'500'000;
  FakeWorker first(fast), second(slow);
  LaunchOptions options;
  options.swap_space_bytes = 12'999;
  options.max_num_batched_tokens = 100;
  options.max_num_seqs = 10;
  options.max_model_len = 50;
  GroupLauncher launcher(options);
  auto group = launcher.Launch({first.address(), second.address()},
                               kCoordinator, kGroup, {});
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(group->ready.num_host_blocks, 12);
  EXPECT_EQ(first.num_allocated_host_blocks(), 12);
  EXPECT_EQ(second.num_allocated_host_blocks(), 12);
  EXPECT_EQ(group->ready.swap_blocks_per_second, 2500);
  // 100 tokens in a millisecond.
  EXPECT_EQ(group->ready.prefill_tokens_per_second, 100'000);
}

TEST(GroupLauncherTest, EveryRankIsToldHowManyPagesADecodeReads) {
  FakeWorker first, second;
  LaunchOptions options;
  options.sparse_pages = 24;
  GroupLauncher launcher(options);
  ASSERT_TRUE(
      launcher
          .Launch({first.address(), second.address()}, kCoordinator, kGroup, {})
          .ok());
  EXPECT_EQ(first.num_sparse_pages(), 24);
  EXPECT_EQ(second.num_sparse_pages(), 24);
}

TEST(GroupLauncherTest, OverrideDecidesTheNumberOfBlocks) {
  FakeWorker worker;
  LaunchOptions options;
  options.num_blocks_override = 7;
  GroupLauncher launcher(options);
  auto group = launcher.Launch({worker.address()}, kCoordinator, kGroup, {});
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(group->ready.num_blocks, 7);
  // Other programs may use what --memory_utilization leaves to them and more.
  EXPECT_EQ(worker.memory_utilization(), 1);
}

TEST(GroupLauncherTest, WorkersSayHowManyTokensAPageGroupHolds) {
  FakeWorkerOptions five, six;
  six.group_tokens = 6;
  FakeWorker first(five), second(five), other(six);
  LaunchOptions options;
  GroupLauncher paged(options);
  auto group = paged.Launch({first.address()}, kCoordinator, kGroup, {});
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(group->ready.block_size, 0);
  options.virtual_page_bytes = 4096;
  GroupLauncher launcher(options);
  group = launcher.Launch({first.address(), second.address()}, kCoordinator,
                          kGroup, {});
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(group->ready.block_size, 5);
  EXPECT_EQ(
      launcher
          .Launch({first.address(), other.address()}, kCoordinator, kGroup, {})
          .status()
          .message(),
      "page groups hold 5 tokens on rank 0, 6 on another");
}

TEST(GroupLauncherTest, NoMemoryLeftIsAnError) {
  FakeWorkerOptions full;
  full.kv_bytes = 999;
  FakeWorker worker(full);
  GroupLauncher launcher({});
  EXPECT_EQ(launcher.Launch({worker.address()}, kCoordinator, kGroup, {})
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(GroupLauncherTest, FirstFailureEndsTheOthersAndNamesItsRank) {
  FakeWorkerOptions hangs, fails;
  hangs.hang_in_load = true;
  fails.load_status = absl::DataLossError("tensor model.norm.weight is cut");
  FakeWorker first(hangs), second(fails);
  GroupLauncher launcher({});
  const absl::Status status =
      launcher
          .Launch({first.address(), second.address()}, kCoordinator, kGroup, {})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.norm.weight"));
}

TEST(GroupLauncherTest, CancelEndsTheLaunchAndAllLaterOnes) {
  FakeWorkerOptions hangs;
  hangs.hang_in_load = true;
  FakeWorker worker(hangs);
  GroupLauncher launcher({});
  absl::Status status;
  std::thread launch([&] {
    status =
        launcher.Launch({worker.address()}, kCoordinator, kGroup, {}).status();
  });
  worker.AwaitLoad();
  launcher.Cancel(absl::CancelledError("stop"));
  launch.join();
  EXPECT_EQ(status, absl::CancelledError("stop"));
  EXPECT_EQ(
      launcher.Launch({worker.address()}, kCoordinator, kGroup, {}).status(),
      absl::CancelledError("stop"));
}

// Such as one that was lost while it waited for the launch before.
TEST(GroupLauncherTest, AnEpochThatIsOverIsNotLaunchedAndTheNextIs) {
  FakeWorkerOptions hangs;
  hangs.hang_in_load = true;
  FakeWorker hanging(hangs), worker;
  GroupLauncher launcher({});
  launcher.EndEpoch(Epoch(1), absl::UnavailableError("rank 0 is lost"));
  EXPECT_EQ(
      launcher.Launch({hanging.address()}, kCoordinator, Epoch(1), {}).status(),
      absl::UnavailableError("rank 0 is lost"));
  EXPECT_TRUE(
      launcher.Launch({worker.address()}, kCoordinator, Epoch(2), {}).ok());
}

TEST(GroupLauncherTest, TheEndOfAnEpochEndsItsLaunchAlone) {
  FakeWorkerOptions hangs;
  hangs.hang_in_load = true;
  FakeWorker worker(hangs);
  GroupLauncher launcher({});
  absl::Status status;
  std::thread launch([&] {
    status = launcher.Launch({worker.address()}, kCoordinator, Epoch(2), {})
                 .status();
  });
  worker.AwaitLoad();
  launcher.EndEpoch(Epoch(1), absl::UnavailableError("long over"));
  launcher.EndEpoch(Epoch(2), absl::UnavailableError("rank 0 is lost"));
  launch.join();
  EXPECT_EQ(status, absl::UnavailableError("rank 0 is lost"));
}

}  // namespace
}  // namespace quire
