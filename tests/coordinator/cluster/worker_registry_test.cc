// SPDX-License-Identifier: Apache-2.0
#include "coordinator/cluster/worker_registry.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr Epoch kCoordinator(77);

WorkerOffer Offer(uint64_t instance_id,
                  std::optional<int32_t> rank = std::nullopt) {
  WorkerOffer offer;
  offer.address = "host:" + std::to_string(instance_id);
  offer.instance_id = instance_id;
  offer.device = "cpu";
  offer.rank = rank;
  return offer;
}

class WorkerRegistryTest : public testing::Test {
 protected:
  static WorkerRegistry::Options TwoRanks() {
    WorkerRegistry::Options options;
    options.world_size = 2;
    return options;
  }

  absl::Status Beat(uint64_t instance_id, uint64_t group_epoch = 1,
                    Epoch coordinator = kCoordinator) {
    return registry_.Heartbeat(instance_id, coordinator, Epoch(group_epoch),
                               StepId(5));
  }

  // Both ranks join; returns the formed group.
  FormedGroup Form(uint64_t first, uint64_t second) {
    EXPECT_TRUE(registry_.Register(Offer(first)).ok());
    auto last = registry_.Register(Offer(second));
    EXPECT_TRUE(last.ok() && last->formed.has_value());
    return *last->formed;
  }

  // Time in which nobody is heard and the registry looks once, in the middle.
  void PassTimeout(WorkerRegistry* registry) {
    clock_.Advance(absl::Milliseconds(1500));
    for (const GroupInfo& group : registry->Groups()) {
      EXPECT_FALSE(registry->Tick(group.group).has_value());
    }
    clock_.Advance(absl::Milliseconds(1500));
  }

  SimulatedClock clock_;
  WorkerRegistry registry_{TwoRanks(), kCoordinator, &clock_};
};

TEST_F(WorkerRegistryTest, LastRankFormsTheGroup) {
  auto first = registry_.Register(Offer(10));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->seat.rank, 0);
  EXPECT_EQ(first->seat.world_size, 2);
  EXPECT_EQ(first->seat.coordinator_epoch, kCoordinator);
  EXPECT_EQ(first->seat.group_epoch, Epoch(1));
  EXPECT_FALSE(first->formed.has_value());
  EXPECT_EQ(registry_.Groups()[0].state, GroupState::kJoining);

  auto second = registry_.Register(Offer(11));
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_TRUE(second->formed.has_value());
  EXPECT_THAT(second->formed->addresses,
              testing::ElementsAre("host:10", "host:11"));
  EXPECT_EQ(registry_.Groups()[0].state, GroupState::kLoading);
}

TEST_F(WorkerRegistryTest, AddressesFollowRanksNotArrival) {
  ASSERT_TRUE(registry_.Register(Offer(10, 1)).ok());
  auto second = registry_.Register(Offer(11, 0));
  ASSERT_TRUE(second.ok() && second->formed.has_value());
  EXPECT_THAT(second->formed->addresses,
              testing::ElementsAre("host:11", "host:10"));
}

TEST_F(WorkerRegistryTest, SameInstanceKeepsItsSeat) {
  ASSERT_TRUE(registry_.Register(Offer(10)).ok());
  auto again = registry_.Register(Offer(10));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->seat.rank, 0);
  EXPECT_FALSE(again->formed.has_value());
}

TEST_F(WorkerRegistryTest, RefusesTakenAndUnknownSeats) {
  ASSERT_TRUE(registry_.Register(Offer(10, 0)).ok());
  EXPECT_EQ(registry_.Register(Offer(11, 0)).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(registry_.Register(Offer(11, 2)).status().code(),
            absl::StatusCode::kInvalidArgument);
  WorkerOffer other_device = Offer(12);
  other_device.device = "cuda";
  EXPECT_EQ(registry_.Register(other_device).status().code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(registry_.Register(Offer(13)).ok());
  EXPECT_EQ(registry_.Register(Offer(14)).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(WorkerRegistryTest, ThreeSecondsOfSilenceEndTheEpoch) {
  Form(10, 11);
  clock_.Advance(absl::Milliseconds(1500));
  EXPECT_FALSE(registry_.Tick(0).has_value());
  clock_.Advance(absl::Milliseconds(1499));
  EXPECT_FALSE(registry_.Tick(0).has_value());
  ASSERT_TRUE(Beat(10).ok());
  clock_.Advance(absl::Milliseconds(1));
  const auto loss = registry_.Tick(0);
  ASSERT_TRUE(loss.has_value());
  EXPECT_EQ(loss->group_epoch, Epoch(1));
  EXPECT_THAT(std::string(loss->cause.message()),
              testing::HasSubstr("rank 1 (host:11)"));
  EXPECT_EQ(registry_.Groups()[0].state, GroupState::kDead);
  EXPECT_FALSE(registry_.Tick(0).has_value());  // said once
  // The rank that did beat shares the fate.
  EXPECT_EQ(Beat(10).code(), absl::StatusCode::kFailedPrecondition);
}

// What they sent meanwhile is still to be read.
TEST_F(WorkerRegistryTest, NobodyIsLostWhileTheCoordinatorStandsStill) {
  Form(10, 11);
  clock_.Advance(absl::Seconds(3));
  EXPECT_FALSE(registry_.Tick(0).has_value());
  ASSERT_TRUE(Beat(10).ok());
  clock_.Advance(absl::Milliseconds(499));
  EXPECT_FALSE(registry_.Tick(0).has_value());
  ASSERT_TRUE(Beat(11).ok());
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_FALSE(registry_.Tick(0).has_value());
  // Another time.
  clock_.Advance(absl::Seconds(3));
  EXPECT_FALSE(registry_.Tick(0).has_value());
  ASSERT_TRUE(Beat(10).ok());
  clock_.Advance(absl::Milliseconds(500));
  EXPECT_TRUE(registry_.Tick(0).has_value());
}

TEST_F(WorkerRegistryTest, ALongerTimeoutBearsMoreSilence) {
  WorkerRegistry::Options options = TwoRanks();
  options.heartbeat_timeout = absl::Seconds(20);
  WorkerRegistry registry(options, kCoordinator, &clock_);
  for (uint64_t i : {10, 11}) ASSERT_TRUE(registry.Register(Offer(i)).ok());
  clock_.Advance(absl::Milliseconds(9999));
  registry.Tick(0);
  EXPECT_FALSE(registry.Groups()[0].ranks[0].suspect);
  clock_.Advance(absl::Milliseconds(1));
  registry.Tick(0);
  clock_.Advance(absl::Milliseconds(9999));
  EXPECT_FALSE(registry.Tick(0).has_value());
  EXPECT_TRUE(registry.Groups()[0].ranks[0].suspect);
  clock_.Advance(absl::Milliseconds(1));
  const auto loss = registry.Tick(0);
  ASSERT_TRUE(loss.has_value());
  EXPECT_THAT(std::string(loss->cause.message()),
              testing::HasSubstr("no heartbeat for 20s"));
  EXPECT_THAT(std::string(loss->cause.message()),
              testing::HasSubstr("--heartbeat_timeout"));
}

TEST_F(WorkerRegistryTest, WorkersBeatOftenWithinTheTimeout) {
  const auto period = [&](absl::Duration timeout) {
    WorkerRegistry::Options options = TwoRanks();
    options.heartbeat_timeout = timeout;
    return WorkerRegistry(options, kCoordinator, &clock_).heartbeat_period();
  };
  EXPECT_EQ(period(absl::Seconds(1)), absl::Seconds(1) / 6);
  EXPECT_EQ(period(absl::Seconds(3)), absl::Milliseconds(500));
  EXPECT_EQ(period(absl::Minutes(10)), absl::Milliseconds(500));
}

TEST_F(WorkerRegistryTest, SuspectsSilenceBeforeItIsDeath) {
  Form(10, 11);
  clock_.Advance(absl::Milliseconds(1500));
  registry_.Tick(0);
  ASSERT_TRUE(Beat(10).ok());
  const auto ranks = registry_.Groups()[0].ranks;
  EXPECT_FALSE(ranks[0].suspect);
  EXPECT_EQ(ranks[0].last_step, StepId(5));
  EXPECT_TRUE(ranks[1].suspect);
  EXPECT_EQ(ranks[1].heartbeat_age, absl::Milliseconds(1500));
}

TEST_F(WorkerRegistryTest, SilentMemberOfJoiningGroupOnlyLeaves) {
  ASSERT_TRUE(registry_.Register(Offer(10)).ok());
  PassTimeout(&registry_);
  EXPECT_FALSE(registry_.Tick(0).has_value());
  EXPECT_EQ(registry_.Groups()[0].state, GroupState::kJoining);
  EXPECT_TRUE(registry_.Groups()[0].ranks.empty());
  EXPECT_EQ(Beat(10).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Form(11, 12).group_epoch, Epoch(1));
}

TEST_F(WorkerRegistryTest, WhoLosesItsSeatIsDismissedOnce) {
  const auto ranks = [&] {
    std::vector<std::pair<int32_t, uint64_t>> taken;
    for (const DismissedWorker& worker : registry_.TakeDismissed(0)) {
      taken.emplace_back(worker.rank, worker.pid);
    }
    return taken;
  };
  using Ranks = std::vector<std::pair<int32_t, uint64_t>>;
  WorkerOffer silent = Offer(10, /*rank=*/1);
  silent.pid = 100;
  ASSERT_TRUE(registry_.Register(silent).ok());
  EXPECT_EQ(ranks(), Ranks());
  PassTimeout(&registry_);
  registry_.Tick(0);
  EXPECT_EQ(ranks(), (Ranks{{1, 100}}));
  EXPECT_EQ(ranks(), Ranks());
  for (uint64_t i : {11, 12}) {
    WorkerOffer offer = Offer(i);
    offer.pid = 100 + i;
    ASSERT_TRUE(registry_.Register(offer).ok());
  }
  registry_.EndEpoch(0, Epoch(1), absl::UnavailableError("gone"));
  registry_.Reform(0);
  ASSERT_TRUE(registry_.Register(Offer(20)).ok());  // stays
  EXPECT_EQ(ranks(), (Ranks{{0, 111}, {1, 112}}));
}

TEST_F(WorkerRegistryTest, WhoLeavesIsNotDismissed) {
  ASSERT_TRUE(registry_.Register(Offer(10)).ok());
  registry_.Leave(10, kCoordinator, Epoch(1));
  EXPECT_TRUE(registry_.TakeDismissed(0).empty());
}

TEST_F(WorkerRegistryTest, WorkersFillTheGroupsInOrderOrTakeThePlaceTheyWant) {
  WorkerRegistry::Options options = TwoRanks();
  options.num_groups = 3;
  WorkerRegistry registry(options, kCoordinator, &clock_);
  const auto join = [&](uint64_t instance_id, std::optional<int32_t> group,
                        std::optional<int32_t> rank) {
    WorkerOffer offer = Offer(instance_id, rank);
    offer.group = group;
    return registry.Register(offer);
  };
  const auto wanted = join(20, /*group=*/2, /*rank=*/1);
  ASSERT_TRUE(wanted.ok()) << wanted.status();
  EXPECT_EQ(wanted->seat.group, 2);
  EXPECT_EQ(wanted->seat.rank, 1);
  for (int32_t i = 0; i < 4; ++i) {
    const auto any = join(10 + i, std::nullopt, std::nullopt);
    ASSERT_TRUE(any.ok()) << any.status();
    EXPECT_EQ(any->seat.group, i / 2);
    EXPECT_EQ(any->seat.rank, i % 2);
    EXPECT_EQ(any->formed.has_value(), i % 2 == 1);
  }
  EXPECT_EQ(join(30, 3, 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(join(30, 1, std::nullopt).status().code(),
            absl::StatusCode::kAlreadyExists);
  const auto taken = join(30, 2, 1);
  EXPECT_EQ(taken.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(taken.status().message()),
              testing::HasSubstr("in group 2"));
  const auto last = join(30, 2, std::nullopt);
  ASSERT_TRUE(last.ok() && last->formed.has_value());
  EXPECT_EQ(last->formed->group, 2);
  EXPECT_EQ(last->seat.rank, 0);
}

TEST_F(WorkerRegistryTest, AReplacementTakesTheLostGroupsPlaceAlone) {
  WorkerRegistry::Options options = TwoRanks();
  options.num_groups = 2;
  WorkerRegistry registry(options, kCoordinator, &clock_);
  for (uint64_t i = 10; i < 14; ++i) {
    ASSERT_TRUE(registry.Register(Offer(i)).ok());
  }
  PassTimeout(&registry);
  for (uint64_t i : {10, 11}) {
    ASSERT_TRUE(registry.Heartbeat(i, kCoordinator, Epoch(1), StepId(1)).ok());
  }
  EXPECT_FALSE(registry.Tick(0).has_value());
  const auto loss = registry.Tick(1);
  ASSERT_TRUE(loss.has_value());
  EXPECT_EQ(loss->group, 1);
  registry.Reform(1);
  const auto replacement = registry.Register(Offer(20));
  ASSERT_TRUE(replacement.ok()) << replacement.status();
  EXPECT_EQ(replacement->seat.group, 1);
  EXPECT_EQ(replacement->seat.group_epoch, Epoch(2));
  // The other group knows nothing of it.
  EXPECT_TRUE(registry.CheckEpoch(0, Epoch(1)).ok());
}

TEST_F(WorkerRegistryTest, ZombieOfAnOldEpochIsRefused) {
  Form(10, 11);
  EXPECT_TRUE(registry_.EndEpoch(0, Epoch(1), absl::UnavailableError("gone")));
  EXPECT_FALSE(registry_.EndEpoch(0, Epoch(1), absl::UnavailableError("gone")));
  registry_.Reform(0);
  EXPECT_THAT(registry_.Groups()[0].detail, testing::HasSubstr("gone"));
  EXPECT_EQ(Form(20, 21).group_epoch, Epoch(2));
  registry_.SetState(0, Epoch(2), GroupState::kReady);
  EXPECT_EQ(registry_.Groups()[0].detail, "the epoch before ended: gone");
  EXPECT_EQ(Beat(10, 1).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Beat(20, 1).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Beat(20, 2, Epoch(76)).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Beat(20, 2).ok());
  EXPECT_FALSE(registry_.CheckEpoch(0, Epoch(1)).ok());
  EXPECT_TRUE(registry_.CheckEpoch(0, Epoch(2)).ok());
  EXPECT_FALSE(registry_.CheckEpoch(1, Epoch(2)).ok());
}

TEST_F(WorkerRegistryTest, DeadGroupTakesNobodyUntilReformed) {
  Form(10, 11);
  registry_.EndEpoch(0, Epoch(1), absl::UnavailableError("gone"));
  for (const auto rank :
       {std::optional<int32_t>(), std::optional<int32_t>(0)}) {
    const absl::Status status = registry_.Register(Offer(20, rank)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(status.message(),
              "group 0 was lost; with --on_group_lost=exit it is not formed "
              "again");
  }
  registry_.Reform(0);
  EXPECT_TRUE(registry_.Register(Offer(20)).ok());
}

TEST_F(WorkerRegistryTest, WhoComesBeforeAGroupIsReformedIsNotSentAway) {
  WorkerRegistry::Options options = TwoRanks();
  options.reform = true;
  WorkerRegistry registry(options, kCoordinator, &clock_);
  ASSERT_TRUE(registry.Register(Offer(10)).ok());
  ASSERT_TRUE(registry.Register(Offer(11)).ok());
  registry.EndEpoch(0, Epoch(1), absl::UnavailableError("gone"));
  EXPECT_EQ(registry.Register(Offer(20)).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(WorkerRegistryTest, AMemberThatLeavesAJoiningGroupFreesItsSeatAtOnce) {
  ASSERT_TRUE(registry_.Register(Offer(10, 0)).ok());
  registry_.Leave(10, kCoordinator, Epoch(2));
  registry_.Leave(10, Epoch(76), Epoch(1));
  registry_.Leave(99, kCoordinator, Epoch(1));
  EXPECT_EQ(registry_.Register(Offer(11, 0)).status().code(),
            absl::StatusCode::kAlreadyExists);
  registry_.Leave(10, kCoordinator, Epoch(1));
  EXPECT_TRUE(registry_.Register(Offer(11, 0)).ok());
  EXPECT_EQ(Beat(10).code(), absl::StatusCode::kFailedPrecondition);
}

// Its silence ends the epoch, with a cause; its stream may be a mere stutter.
TEST_F(WorkerRegistryTest, AMemberOfACompleteGroupKeepsItsSeat) {
  Form(10, 11);
  registry_.Leave(10, kCoordinator, Epoch(1));
  EXPECT_TRUE(Beat(10).ok());
  EXPECT_TRUE(registry_.CheckEpoch(0, Epoch(1)).ok());
}

TEST_F(WorkerRegistryTest, OldEpochsCannotChangeTheState) {
  Form(10, 11);
  registry_.SetState(0, Epoch(2), GroupState::kReady);
  EXPECT_EQ(registry_.Groups()[0].state, GroupState::kLoading);
  registry_.SetLoadProgress(0, Epoch(1), 1, {"weights", 3, 9});
  registry_.SetState(0, Epoch(1), GroupState::kReady);
  EXPECT_EQ(registry_.Groups()[0].state, GroupState::kReady);
  EXPECT_EQ(registry_.Groups()[0].ranks[1].load.phase, "weights");
}

TEST(WorkerRegistryGroupsTest, SecondGroupFillsAfterTheFirst) {
  SimulatedClock clock;
  WorkerRegistry::Options options;
  options.num_groups = 2;
  WorkerRegistry registry(options, kCoordinator, &clock);
  EXPECT_EQ(registry.Register(Offer(1))->formed->group, 0);
  EXPECT_EQ(registry.Register(Offer(2))->formed->group, 1);
}

}  // namespace
}  // namespace quire
