// SPDX-License-Identifier: Apache-2.0
//
// Executors of devices that run nothing before the host waits: whatever the
// host writes or reads too early changes tokens.
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/worker/executor/executor_world.h"
#include "tests/worker/executor/random_plans.h"
#include "worker/collective/local.h"
#include "worker/collective/solo.h"

namespace quire {
namespace {

// What devices gather among themselves takes its turn on each.
class LateCollective final : public Collective {
 public:
  LateCollective(Collective* real, FakeBackend* device)
      : real_(real), device_(device) {}
  int32_t rank() const override { return real_->rank(); }
  int32_t world_size() const override { return real_->world_size(); }
  absl::Status AllReduceSum(void* data, int64_t n, DType dtype) override {
    return real_->AllReduceSum(data, n, dtype);  // the model's turn
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes) override {
    return real_->AllGather(in, out, bytes);
  }
  absl::Status EnqueueAllGather(const void* in, void* out,
                                int64_t bytes) override {
    device_->Enqueue([this, in, out, bytes] {
      const absl::Status status = real_->AllGather(in, out, bytes);
      CHECK(status.ok()) << status;
    });
    return absl::OkStatus();
  }
  absl::Status Barrier() override { return real_->Barrier(); }

 private:
  Collective* const real_;
  FakeBackend* const device_;
};

std::unique_ptr<Executor> MakeLateExecutor(Collective* group,
                                           const Clock* clock,
                                           bool records_decodes) {
  auto backend = std::make_unique<FakeBackend>();
  FakeBackend* const device = backend.get();
  device->set_late();
  device->set_chooses_shaped();
  ExecutorParts parts = SmallParts(
      std::move(backend), std::make_unique<LateCollective>(group, device));
  parts.device_sampling = true;
  parts.records_decodes = records_decodes;
  auto model =
      std::make_unique<FakeModel>(parts.collective.get(), kVocab, Limits());
  model->set_device(device);
  parts.model = std::move(model);
  auto executor = Executor::Create(std::move(parts), clock);
  EXPECT_TRUE(executor.ok()) << executor.status();
  return *std::move(executor);
}

struct Ran {
  std::vector<StepResult> results;
  int64_t num_ahead = 0;  // plans that began while a step ran
};

// Begins each plan as soon as may be.
Ran RunPlans(Executor* executor, const std::vector<StepPlan>& plans) {
  Ran ran;
  const auto finish = [&] {
    const absl::Status status = executor->Finish(&ran.results.emplace_back());
    ASSERT_TRUE(status.ok()) << status;
  };
  for (const StepPlan& plan : plans) {
    while (executor->num_begun() > 0 && !executor->MayBegin(plan)) finish();
    ran.num_ahead += executor->num_begun() > 0 ? 1 : 0;
    const absl::Status status = executor->Begin(plan);
    EXPECT_TRUE(status.ok()) << status;
  }
  while (executor->num_begun() > 0) finish();
  return ran;
}

// By rank.
std::vector<Ran> RunLate(int32_t world, const std::vector<StepPlan>& plans,
                         bool records_decodes) {
  const SimulatedClock clock;
  LocalGroup group(world);
  std::vector<Ran> by_rank(world);
  std::vector<std::thread> ranks;
  for (int32_t rank = 0; rank < world; ++rank) {
    ranks.emplace_back([&, rank] {
      const auto executor =
          MakeLateExecutor(group.collective(rank), &clock, records_decodes);
      ASSERT_TRUE(executor->AllocateKv(kNumRandomBlocks, 4).ok());
      by_rank[rank] = RunPlans(executor.get(), plans);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  return by_rank;
}

void ExpectSameLogprobs(const std::vector<SampledLogprobs>& by_device,
                        const std::vector<SampledLogprobs>& by_host) {
  ASSERT_EQ(by_device.size(), by_host.size());
  for (size_t i = 0; i < by_host.size(); ++i) {
    const SampledLogprobs& a = by_device[i];
    const SampledLogprobs& b = by_host[i];
    EXPECT_EQ(a.sample_idx, b.sample_idx);
    EXPECT_EQ(a.rank, b.rank);
    // Sums of 97 floats, and of as many doubles.
    EXPECT_NEAR(a.logprob, b.logprob, 1e-5);
    ASSERT_EQ(a.top.size(), b.top.size());
    for (size_t j = 0; j < b.top.size(); ++j) {
      EXPECT_EQ(a.top[j].token_id, b.top[j].token_id);
    }
  }
}

void ExpectSameResults(const std::vector<Ran>& by_rank,
                       const std::vector<StepResult>& by_host) {
  for (const Ran& ran : by_rank) {
    ASSERT_EQ(ran.results.size(), by_host.size());
    for (size_t step = 0; step < by_host.size(); ++step) {
      EXPECT_EQ(ran.results[step].token_digest, by_host[step].token_digest);
      EXPECT_EQ(ran.results[step].table_digest, by_host[step].table_digest);
    }
  }
  for (size_t step = 0; step < by_host.size(); ++step) {
    SCOPED_TRACE(testing::Message() << "step " << step);
    const StepResult& a = by_rank[0].results[step];
    const StepResult& b = by_host[step];
    ASSERT_EQ(a.tokens, b.tokens);
    ExpectSameLogprobs(a.logprobs, b.logprobs);
    ASSERT_EQ(a.prompt_logprobs.size(), b.prompt_logprobs.size());
    for (size_t i = 0; i < b.prompt_logprobs.size(); ++i) {
      ExpectSameLogprobs(a.prompt_logprobs[i].tokens,
                         b.prompt_logprobs[i].tokens);
    }
  }
}

TEST(LateExecutorTest, AnyMixOfRowsGetsTheTokensOfOneRankThatRunsAtOnce) {
  constexpr int32_t kNumSeeds = 30;
  constexpr int32_t kNumPlans = 60;
  const SimulatedClock clock;
  int64_t num_steps = 0, num_ahead = 0;
  for (int32_t seed = 0; seed < kNumSeeds; ++seed) {
    const auto plans = RandomPlans(seed).Make(kNumPlans);
    const auto host = MakeExecutor(std::make_unique<SoloCollective>(), &clock);
    ASSERT_TRUE(host->AllocateKv(kNumRandomBlocks, 0).ok());
    const Ran by_host = RunPlans(host.get(), plans);
    for (const int32_t world : {1, 2, 4}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << world);
      const auto by_rank =
          RunLate(world, plans, /*records_decodes=*/seed % 2 == 1);
      ExpectSameResults(by_rank, by_host.results);
      if (HasFailure()) return;
      num_steps += kNumPlans;
      num_ahead += by_rank[0].num_ahead;
    }
  }
  // Else little of the above was late, or nothing the host's to choose.
  EXPECT_GT(num_ahead, num_steps / 2);
  EXPECT_LT(num_ahead, num_steps * 9 / 10);
}

TEST(LateExecutorTest, EveryWayThroughTheCacheGivesTheModelsOwnTokens) {
  for (const bool records_decodes : {false, true}) {
    for (const int32_t world : {1, 2}) {
      const auto by_rank = RunLate(world, Script(), records_decodes);
      const auto expected = ExpectedTokens();
      ASSERT_EQ(by_rank[0].results.size(), expected.size());
      for (size_t step = 0; step < expected.size(); ++step) {
        EXPECT_EQ(by_rank[0].results[step].tokens, expected[step]) << step;
      }
    }
  }
}

}  // namespace
}  // namespace quire
