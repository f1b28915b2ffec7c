// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/tenant_queues.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

class TenantQueuesTest : public testing::Test {
 protected:
  static TenantConfig Config() {
    TenantConfig config;
    config.burst_tokens = 0;
    config.tenants["heavy"].weight = 4;
    return config;
  }

  // A waiting group of the tenant.
  static int32_t Wait(const std::string& tenant, int64_t arrival,
                      TenantQueues* queues) {
    const int32_t idx = queues->Enter(tenant, absl::UnixEpoch());
    WaitingGroup group;
    group.arrival = arrival;
    group.key = RequestKey(arrival);
    queues->Insert(idx, group);
    return idx;
  }
  static void End(int32_t idx, int64_t arrival, absl::Time now,
                  TenantQueues* queues) {
    queues->Erase(idx, 0, arrival);
    queues->Leave(idx, now);
  }
  static View Show(TenantQueues* queues) {
    View view;
    queues->FillView({}, ServiceOrder(absl::ZeroDuration()), absl::UnixEpoch(),
                     &view);
    return view;
  }
};

TEST_F(TenantQueuesTest, OneTenantIsShownAsIfThereWereNone) {
  TenantQueues queues(Config(), /*by_tenant=*/true);
  EXPECT_TRUE(Show(&queues).waiting.empty());
  Wait("a", 1, &queues);
  Wait("a", 2, &queues);
  const View view = Show(&queues);
  EXPECT_TRUE(view.tenants.empty());
  ASSERT_EQ(view.waiting.size(), 2);
  EXPECT_EQ(queues.At(0, 1).arrival, 2);
}

TEST_F(TenantQueuesTest, OneTenantWithAQuotaIsShownAsATenant) {
  TenantConfig config = Config();
  config.unlisted.max_kv = 0.5;
  TenantQueues queues(config, /*by_tenant=*/true);
  queues.SetPool(100);
  const int32_t idx = Wait("a", 1, &queues);
  const View view = Show(&queues);
  EXPECT_TRUE(view.has_quotas);
  EXPECT_TRUE(view.waiting.empty());
  EXPECT_EQ(view.tenants[idx].max_num_blocks, 50);
}

TEST_F(TenantQueuesTest, APolicyThatKnowsNoTenantsSeesOneQueue) {
  TenantQueues queues(Config(), /*by_tenant=*/false);
  Wait("b", 1, &queues);
  Wait("a", 2, &queues);
  const View view = Show(&queues);
  EXPECT_TRUE(view.tenants.empty());
  ASSERT_EQ(view.waiting.size(), 2);
  EXPECT_EQ(view.waiting[0].arrival, 1);
}

TEST_F(TenantQueuesTest, TokensCountOverTheWeight) {
  TenantQueues queues(Config(), /*by_tenant=*/true);
  const int32_t light = Wait("light", 1, &queues);
  const int32_t heavy = Wait("heavy", 2, &queues);
  queues.ChargePrompt(light, 100);
  queues.ChargePrompt(heavy, 400);
  EXPECT_EQ(queues.counter(light), queues.counter(heavy));
  queues.ChargeOutputs(light, 10);
  queues.ChargePrompt(heavy, 80);
  EXPECT_EQ(queues.counter(light), queues.counter(heavy));
}

TEST_F(TenantQueuesTest, WhoBeginsToWaitIsLiftedToTheLeast) {
  TenantQueues queues(Config(), /*by_tenant=*/true);
  const int32_t busy = Wait("busy", 1, &queues);
  queues.ChargePrompt(busy, 1000);
  const int32_t late = Wait("late", 2, &queues);
  EXPECT_EQ(queues.counter(late), queues.counter(busy));
  TenantConfig config = Config();
  config.burst_tokens = 300;
  TenantQueues generous(config, /*by_tenant=*/true);
  const int32_t much = Wait("busy", 1, &generous);
  generous.ChargePrompt(much, 1000);
  const int32_t little = Wait("late", 2, &generous);
  EXPECT_EQ(generous.counter(little), generous.counter(much) / 10 * 7);
}

TEST_F(TenantQueuesTest, WhoHasTakenMuchIsNotForgottenByBeingIdle) {
  TenantQueues queues(Config(), /*by_tenant=*/true);
  const absl::Time now = absl::UnixEpoch();
  int32_t greedy = Wait("greedy", 1, &queues);
  Wait("other", 2, &queues);
  queues.ChargePrompt(greedy, 1000);
  const int64_t counter = queues.counter(greedy);
  End(greedy, 1, now, &queues);
  greedy = Wait("greedy", 3, &queues);
  EXPECT_EQ(queues.counter(greedy), counter);
  End(greedy, 3, now, &queues);
  // Until its account is closed.
  const absl::Time later = now + Config().idle_expiry;
  queues.Leave(queues.Enter("third", later), later);
  greedy = Wait("greedy", 4, &queues);
  EXPECT_LT(queues.counter(greedy), counter);
}

TEST_F(TenantQueuesTest, ABoundedNumberIsTrackedWhoeverComes) {
  TenantConfig config = Config();
  config.max_tracked = 8;
  TenantQueues queues(config, /*by_tenant=*/true);
  const absl::Time now = absl::UnixEpoch();
  for (int name = 0; name < 1000; ++name) {
    const int32_t idx = Wait(absl::StrCat(name), name, &queues);
    queues.ChargePrompt(idx, 1);
    if (name >= 4) End(idx, name, now, &queues);
    ASSERT_LE(queues.num_tracked(), 9);  // and one account for the rest
  }
  EXPECT_EQ(queues.served().size(), kMaxTenantLabels + 1);
  EXPECT_EQ(queues.served()[0].label, kOtherTenants);
  int64_t sum = 0;
  for (const TenantServed& served : queues.served()) {
    sum += served.num_prompt_tokens;
  }
  EXPECT_EQ(sum, 1000);
}

}  // namespace
}  // namespace quire
