// SPDX-License-Identifier: Apache-2.0
//
// Every reason to wait, provoked through the whole engine under a clock that
// the test moves: 1 ms a step.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

EngineOptions SmallOptions() {
  EngineOptions options;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 64;
  options.max_model_len = 1024;
  options.block_size = 16;
  options.watermark = 0;
  options.run_ahead_depth = 1;
  return options;
}

// One step a millisecond.
class Engine : public EngineHarness {
 public:
  Engine(const EngineOptions& options, int32_t num_blocks)
      : EngineHarness(options, num_blocks) {}

  void Step() {
    Plan();
    Advance(absl::Milliseconds(1));
    Deliver();
  }
  void Steps(int num_steps) {
    for (int step = 0; step < num_steps; ++step) Step();
  }
  void Finish() {
    for (int step = 0; step < 10000 && !core().is_idle(); ++step) Step();
    metrics_ = core().TakeMetrics();
    core().FillWaitMetrics(&metrics_);
    ExpectClean();
  }

  RequestKey Add(const std::string& id, int32_t num_prompt_tokens,
                 int32_t max_tokens, const std::string& tenant = "",
                 int32_t priority = 0) {
    // Prompts that share nothing.
    EngineRequest request =
        MakeRequest(id, num_prompt_tokens, max_tokens, ++num_requests_);
    request.tenant = tenant;
    request.priority = priority;
    return MustSubmit(std::move(request));
  }

  Timeline Explain(const std::string& id) {
    auto timeline = core().Explain(id, now());
    EXPECT_TRUE(timeline.ok()) << timeline.status();
    if (!timeline.ok()) return {};
    ExpectSums(*timeline);
    return *std::move(timeline);
  }

  // The reason that the request has waited for last.
  WaitDetail Last(const std::string& id) {
    const Timeline timeline = Explain(id);
    if (timeline.intervals.empty()) {
      ADD_FAILURE() << id << " has not waited";
      return {};
    }
    return timeline.intervals.back().why;
  }
  absl::Duration Total(const std::string& id, WaitReason reason) {
    return Explain(id).totals[static_cast<int>(reason)];
  }

  // Of the time until Finish().
  const EngineMetrics& metrics() const { return metrics_; }

 private:
  static void ExpectSums(const Timeline& timeline) {
    absl::Duration listed = timeline.unlisted;
    absl::Time last = timeline.arrival;
    for (const WaitInterval& interval : timeline.intervals) {
      EXPECT_GE(interval.from, last);
      EXPECT_GE(interval.to, interval.from);
      last = interval.to;
      listed += interval.to - interval.from;
    }
    EXPECT_EQ(listed, timeline.waited());
    absl::Duration behind;
    for (const absl::Duration part : timeline.behind_causes) behind += part;
    EXPECT_EQ(behind, timeline.totals[static_cast<int>(WaitReason::kBehind)]);
  }

  uint64_t num_requests_ = 0;
  EngineMetrics metrics_;
};

constexpr absl::Duration kStep = absl::Milliseconds(1);

TEST(ExplainTest, ARequestThatIsServedAtOnceHasWaitedForNothing) {
  Engine engine(SmallOptions(), 64);
  engine.Add("a", 10, 3);
  engine.Step();
  Timeline timeline = engine.Explain("a");
  EXPECT_EQ(timeline.state, TimelineState::kRunning);
  EXPECT_TRUE(timeline.intervals.empty());
  engine.Finish();
  timeline = engine.Explain("a");
  EXPECT_EQ(timeline.state, TimelineState::kEnded);
  EXPECT_EQ(timeline.end - timeline.arrival, 3 * kStep);
  EXPECT_EQ(engine.core().Explain("b", engine.now()).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(ExplainTest, NextStep) {
  Engine engine(SmallOptions(), 64);
  engine.Add("a", 10, 5);
  engine.Plan();
  engine.Advance(kStep / 4);
  engine.Add("b", 10, 5);  // while a step runs
  engine.Advance(kStep * 3 / 4);
  engine.Deliver();
  engine.Step();
  EXPECT_EQ(engine.Total("b", WaitReason::kNextStep), kStep * 3 / 4);
  EXPECT_EQ(engine.Explain("b").waited(), kStep * 3 / 4);
  engine.Finish();
}

TEST(ExplainTest, NeedsBlocks) {
  Engine engine(SmallOptions(), 8);
  engine.Add("a", 60, 30);  // 4 blocks at first
  engine.Step();
  engine.Add("b", 80, 2);  // 5
  engine.Steps(3);
  const WaitDetail why = engine.Last("b");
  EXPECT_EQ(why.reason, WaitReason::kNeedsBlocks);
  EXPECT_EQ(why.num_needed, 5);
  EXPECT_EQ(why.num_available, 4);
  EXPECT_EQ(engine.Total("b", WaitReason::kNeedsBlocks), 3 * kStep);
  engine.Finish();
  EXPECT_EQ(engine.Explain("b").waited(),
            engine.Total("b", WaitReason::kNeedsBlocks));
}

TEST(ExplainTest, NoSlot) {
  EngineOptions options = SmallOptions();
  options.max_num_seqs = 1;
  Engine engine(options, 64);
  engine.Add("a", 10, 5);
  engine.Add("b", 10, 5);
  engine.Steps(3);
  EXPECT_EQ(engine.Last("b").reason, WaitReason::kNoSlot);
  EXPECT_EQ(engine.Last("b").num_needed, 1);
  EXPECT_EQ(engine.Last("b").num_available, 0);
  engine.Finish();
  EXPECT_EQ(engine.Total("b", WaitReason::kNoSlot), 5 * kStep);
}

TEST(ExplainTest, TokenBudget) {
  Engine engine(SmallOptions(), 64);
  engine.Add("a", 64 * 3, 1);
  engine.Add("b", 10, 1);
  engine.Finish();
  EXPECT_EQ(engine.Total("b", WaitReason::kTokenBudget), 3 * kStep);
  EXPECT_EQ(engine.Explain("b").waited(), 3 * kStep);
}

TEST(ExplainTest, Behind) {
  EngineOptions options = SmallOptions();
  options.max_num_seqs = 1;
  Engine engine(options, 64);
  for (const char* id : {"a", "b", "c", "d"}) engine.Add(id, 10, 4);
  engine.Steps(2);
  EXPECT_EQ(engine.Last("d").reason, WaitReason::kBehind);
  EXPECT_EQ(engine.Last("d").num_needed, 2);
  engine.Finish();
  // a and b ran before c was looked at, then c ran.
  EXPECT_EQ(engine.Total("d", WaitReason::kBehind), 8 * kStep);
  EXPECT_EQ(engine.Total("d", WaitReason::kNoSlot), 4 * kStep);
  EXPECT_EQ(
      engine.Explain("d").behind_causes[static_cast<int>(WaitReason::kNoSlot)],
      8 * kStep);
}

TEST(ExplainTest, HeadReserved) {
  EngineOptions options = SmallOptions();
  options.max_num_seqs = 64;
  Engine engine(options, 16);
  engine.Add("a", 60, 30);
  engine.Step();
  engine.Add("big", 16 * 15, 1);
  for (int idx = 0; idx < 10; ++idx) engine.Add(absl::StrCat(idx), 4, 2);
  engine.Steps(6);
  EXPECT_EQ(engine.Last("big").reason, WaitReason::kNeedsBlocks);
  EXPECT_TRUE(engine.Explain("7").intervals.empty() ||
              engine.Explain("7").state != TimelineState::kWaiting);
  const Timeline ninth = engine.Explain("9");
  EXPECT_EQ(ninth.state, TimelineState::kWaiting);
  EXPECT_EQ(engine.Last("8").reason, WaitReason::kHeadReserved);
  EXPECT_EQ(engine.Last("8").num_needed, 15);
  EXPECT_EQ(engine.Explain("8").intervals.back().other, "big");
  EXPECT_EQ(ninth.intervals.back().why.reason, WaitReason::kBehind);
  engine.Finish();
}

TEST(ExplainTest, PreemptedByAndResultsInFlight) {
  EngineOptions options = SmallOptions();
  options.run_ahead_depth = 3;
  Engine engine(options, 4);
  engine.Add("a", 30, 30);
  engine.Add("b", 30, 30);
  bool in_flight = false;
  for (int step = 0; step < 40; ++step) {
    engine.Step();
    const Timeline timeline = engine.Explain("b");
    if (timeline.num_preemptions > 0 &&
        timeline.state == TimelineState::kWaiting) {
      in_flight |=
          timeline.intervals.back().why.reason == WaitReason::kResultsInFlight;
    }
  }
  const Timeline timeline = engine.Explain("b");
  EXPECT_TRUE(in_flight);
  ASSERT_EQ(timeline.num_preemptions, 1);
  const auto taken =
      std::find_if(timeline.intervals.begin(), timeline.intervals.end(),
                   [](const WaitInterval& interval) {
                     return interval.why.reason == WaitReason::kPreemptedBy;
                   });
  ASSERT_NE(taken, timeline.intervals.end());
  EXPECT_EQ(taken->other, "a");
  engine.Finish();
}

TEST(ExplainTest, TenantQuota) {
  EngineOptions options = SmallOptions();
  options.tenants.tenants["small"].max_blocks = 4;
  Engine engine(options, 64);
  engine.Add("a", 30, 10, "small");
  engine.Add("b", 60, 2, "small");
  engine.Add("c", 60, 2, "other");
  engine.Steps(3);
  EXPECT_EQ(engine.Last("b").reason, WaitReason::kTenantQuota);
  EXPECT_EQ(engine.Last("b").num_needed, 4);
  EXPECT_EQ(engine.Last("b").num_available, 2);
  engine.Finish();
  EXPECT_GE(engine.Total("b", WaitReason::kTenantQuota), 8 * kStep);
}

TEST(ExplainTest, TenantTurn) {
  Engine engine(SmallOptions(), 64);
  engine.Add("warm", 64, 1, "often");
  engine.Step();
  engine.Add("often", 64, 1, "often");
  engine.Add("x0", 64, 1, "seldom");
  engine.Add("x1", 64, 1, "rare");
  engine.Step();
  // Three share a step's budget, and the one already served is the last.
  const Timeline timeline = engine.Explain("often");
  EXPECT_EQ(timeline.totals[static_cast<int>(WaitReason::kTenantTurn)] +
                timeline.totals[static_cast<int>(WaitReason::kTokenBudget)],
            timeline.waited());
  engine.Finish();
}

TEST(ExplainTest, NoWorkerGroup) {
  EngineOptions options = SmallOptions();
  options.on_group_lost = OnGroupLostAction::kRequeue;
  options.max_num_seqs = 1;
  Engine engine(options, 64);
  engine.Add("a", 10, 5);
  engine.Add("b", 10, 5);
  engine.Steps(2);
  engine.LoseGroup("cable");
  engine.Advance(absl::Seconds(2));
  EXPECT_EQ(engine.Last("a").reason, WaitReason::kNoWorkerGroup);
  EXPECT_EQ(engine.Last("b").reason, WaitReason::kNoWorkerGroup);
  engine.BeginGroup();
  engine.Finish();
  EXPECT_EQ(engine.Total("a", WaitReason::kNoWorkerGroup), absl::Seconds(2));
  EXPECT_EQ(engine.Total("b", WaitReason::kNoWorkerGroup), absl::Seconds(2));
}

TEST(ExplainTest, Resync) {
  EngineOptions options = SmallOptions();
  options.run_ahead_depth = 2;
  options.max_num_seqs = 1;
  Engine engine(options, 64);
  engine.Add("a", 10, 8);
  engine.Add("b", 10, 8);
  engine.Steps(2);
  engine.workers().CorruptNextDigest();
  engine.Finish();
  EXPECT_EQ(engine.metrics().counters.num_resyncs, 1);
  // The one step that was planned beyond the wrong one.
  EXPECT_EQ(engine.Total("b", WaitReason::kResync), kStep);
  EXPECT_EQ(engine.Explain("a").num_preemptions, 1);
}

// Under whatever load: what is explained is what was waited, for each request
// and in sum.
TEST(ExplainTest, EveryWaitAddsUpUnderRandomLoads) {
  for (int seed = 0; seed < 8; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    EngineOptions options = SmallOptions();
    options.max_num_seqs = 4;
    options.run_ahead_depth = 1 + seed % 3;
    options.priority_ageing = absl::Milliseconds(seed % 2 * 20);
    options.tenants.tenants["t1"].guaranteed_kv = 0.3;
    options.tenants.tenants["t2"].max_kv = 0.5;
    Engine engine(options, 24);
    std::vector<std::string> ids;
    for (int round = 0; round < 300; ++round) {
      if (random() % 3 == 0 && ids.size() < 60) {
        ids.push_back(absl::StrCat("r", ids.size()));
        engine.Add(ids.back(), 1 + random() % 200, 1 + random() % 30,
                   absl::StrCat("t", random() % 4),
                   static_cast<int32_t>(random() % 3));
      }
      engine.Step();
    }
    engine.Finish();
    absl::Duration sum;
    for (const std::string& id : ids) sum += engine.Explain(id).waited();
    const EngineMetrics& metrics = engine.metrics();
    absl::Duration counted;
    for (const absl::Duration part : metrics.waited) counted += part;
    EXPECT_EQ(sum, counted);
    int num_undisturbed = 0;
    for (const RequestSample& sample : metrics.requests) {
      const std::string id = absl::StrCat("r", sample.key.value() - 1);
      if (sample.num_preemptions > 0) continue;
      ++num_undisturbed;
      EXPECT_EQ(engine.Explain(id).waited(),
                sample.first_scheduled - sample.arrival);
    }
    EXPECT_GT(num_undisturbed, 0);
  }
}

}  // namespace
}  // namespace quire
