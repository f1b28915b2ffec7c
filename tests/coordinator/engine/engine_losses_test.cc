// SPDX-License-Identifier: Apache-2.0
//
// Requests that end whoever runs them, among others that do not.
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

using testing::HasSubstr;

EngineOptions Options() {
  EngineOptions options = SmallEngineOptions();
  options.on_group_lost = OnGroupLostAction::kRequeue;
  return options;
}

// An engine, and who is in each of its plans.
class Watched {
 public:
  using Names = std::set<std::string>;

  explicit Watched(const EngineOptions& options, int32_t num_blocks = 200)
      : engine(options, num_blocks) {
    engine.KeepPlans();
  }

  RequestKey MustSubmit(const EngineRequest& request) {
    requests_.push_back(request);
    return engine.MustSubmit(request);
  }

  // Plans as far ahead as the engine wants; who is in those plans.
  std::vector<Names> Plan() {
    engine.Plan();
    std::vector<Names> companies;
    for (; num_seen_ < engine.plans().size(); ++num_seen_) {
      companies.push_back(NamesIn(engine.plans()[num_seen_]));
    }
    return companies;
  }

  void LoseAndBegin() {
    engine.LoseGroup("gone");
    engine.BeginGroup();
    owners_.clear();
  }

  // Until all have ended; the workers do not survive a plan with `poison`.
  // Returns in whose company it was.
  std::vector<Names> RunWith(const std::string& poison) {
    std::vector<Names> losses;
    while (true) {
      bool is_lost = false;
      for (const Names& names : Plan()) {
        if (!is_lost && names.contains(poison)) {
          losses.push_back(names);
          is_lost = true;
        }
      }
      if (is_lost) {
        LoseAndBegin();
      } else if (!engine.Deliver()) {
        return losses;
      }
    }
  }

  EngineHarness engine;

 private:
  Names NamesIn(const StepPlan& plan) {
    for (const SlotFork& fork : plan.forks) {
      owners_[fork.child] = owners_.at(fork.parent);
    }
    for (const AdmittedSlot& admitted : plan.admitted) {
      for (const EngineRequest& request : requests_) {
        const std::vector<TokenId> prompt(
            admitted.tokens.begin(),
            admitted.tokens.begin() + admitted.num_prompt_tokens);
        if (prompt == request.prompt) {
          owners_[admitted.slot] = request.request_id;
        }
      }
    }
    Names names;
    for (const SlotId slot : plan.decodes) names.insert(owners_.at(slot));
    for (const Slice& chunk : plan.chunks) names.insert(owners_.at(chunk.slot));
    return names;
  }

  std::vector<EngineRequest> requests_;
  std::map<SlotId, std::string> owners_;
  size_t num_seen_ = 0;
};

class EngineLossesTest : public testing::Test {
 protected:
  // Five that harm nobody, one of them of two sequences.
  void SubmitInnocents() {
    for (int i = 0; i < 5; ++i) {
      innocents_.push_back(
          MakeRequest("i" + std::to_string(i), 9 + 11 * i, 12, i));
      if (i == 2) innocents_[i].sampling.n = innocents_[i].sampling.best_of = 2;
      keys_.push_back(watched_.MustSubmit(innocents_[i]));
    }
  }

  void ExpectInnocents() {
    for (size_t i = 0; i < innocents_.size(); ++i) {
      for (int32_t index = 0; index < innocents_[i].sampling.n; ++index) {
        EXPECT_EQ(engine_.Heard(keys_[i], index).tokens,
                  ExpectedStream(innocents_[i], index))
            << i;
      }
    }
  }

  Watched watched_{Options()};
  EngineHarness& engine_ = watched_.engine;
  std::vector<EngineRequest> innocents_;
  std::vector<RequestKey> keys_;
};

TEST_F(EngineLossesTest, APoisonEndsAloneAndNobodyElseIsHarmed) {
  SubmitInnocents();
  const RequestKey poison = watched_.MustSubmit(MakeRequest("p", 20, 50, 99));
  const auto losses = watched_.RunWith("p");
  ASSERT_EQ(losses.size(), 3u);
  EXPECT_GT(losses[0].size(), 1u);
  EXPECT_GT(losses[1].size(), 1u);
  EXPECT_EQ(losses[2], Watched::Names({"p"}));
  const absl::Status status = engine_.Heard(poison).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("3 worker groups were lost while they ran this "
                        "request, the last one while it ran nothing else"));
  ExpectInnocents();
  engine_.ExpectClean();
}

TEST_F(EngineLossesTest, OnesThatWereThereRunOnceAloneAndThenTogether) {
  SubmitInnocents();
  for (int loss = 0; loss < 2; ++loss) {
    watched_.Plan();
    watched_.LoseAndBegin();
  }
  // Each for itself until it has a token; none of them before the other's.
  std::vector<std::string> alone;
  Watched::Names together;
  while (true) {
    for (const auto& names : watched_.Plan()) {
      if (names.size() > 1) {
        together.insert(names.begin(), names.end());
      } else if (!names.empty() && together.empty() &&
                 (alone.empty() || alone.back() != *names.begin())) {
        alone.push_back(*names.begin());
      }
    }
    if (!engine_.Deliver()) break;
  }
  EXPECT_THAT(alone, testing::ElementsAre("i0", "i1", "i2", "i3", "i4"));
  EXPECT_EQ(together.size(), 5u);
  ExpectInnocents();
  engine_.ExpectClean();
}

TEST_F(EngineLossesTest, OneThatHasProvedItselfIsTriedAloneAtTheNextLoss) {
  const EngineRequest request = MakeRequest("a", 9, 100, 1);
  const RequestKey key = watched_.MustSubmit(request);
  SubmitInnocents();
  for (int loss = 0; loss < 7; ++loss) {
    const size_t num_tokens = engine_.Heard(key).tokens.size();
    while (engine_.Heard(key).tokens.size() == num_tokens) {
      watched_.Plan();
      ASSERT_TRUE(engine_.Deliver());
    }
    watched_.LoseAndBegin();
  }
  // It gained a token each time: so did the others that lived as long.
  EXPECT_TRUE(engine_.Heard(key).status.ok());
  EXPECT_EQ(watched_.Plan()[0], Watched::Names({"a"}));
  // Not for ever.
  engine_.Deliver();
  watched_.LoseAndBegin();
  EXPECT_EQ(engine_.Heard(key).status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(engine_.Heard(key).status.message()),
              testing::StartsWith("8 worker groups were lost while they ran "
                                  "this request; it is not tried"));
  engine_.RunUntilIdle();
  ExpectInnocents();
  engine_.ExpectClean();
}

TEST_F(EngineLossesTest, OneThatComesFromElsewhereFindsRoomAtOnce) {
  Watched from(Options());
  const EngineRequest request = MakeRequest("a", 30, 10, 77);
  const RequestKey key = from.MustSubmit(request);
  for (int loss = 0; loss < 2; ++loss) {
    from.Plan();
    from.LoseAndBegin();
  }
  // Keys of the two engines are apart.
  engine_.Finish(engine_.MustSubmit(MakeRequest("x", 5, 1, 5)),
                 FinishReason::kStop);
  SubmitInnocents();
  for (int step = 0; step < 4; ++step) {
    watched_.Plan();
    engine_.Deliver();
  }
  EXPECT_GT(engine_.core().Stats().num_running, 1);
  from.engine.LoseGroup("gone");
  std::vector<MovedGroup> moved = from.engine.core().TakeAll(from.engine.now());
  ASSERT_EQ(moved.size(), 1u);
  engine_.HearOn(from.engine, key);
  engine_.intake().Adopt("a", key, false, 30);
  engine_.core().Adopt(std::move(moved[0]), engine_.now());
  // Nothing in flight of the others when it runs.
  watched_.Plan();
  EXPECT_EQ(engine_.core().Stats().num_running, 0);
  const auto waits = engine_.core().Explain("i0", engine_.now());
  ASSERT_TRUE(waits.ok()) << waits.status();
  EXPECT_EQ(waits->intervals.back().why.reason, WaitReason::kPreemptedBy);
  EXPECT_EQ(waits->intervals.back().other, "a");
  while (engine_.core().num_in_flight() > 0) ASSERT_TRUE(engine_.Deliver());
  engine_.Plan();
  EXPECT_EQ(engine_.core().Stats().num_running, 1);
  engine_.RunUntilIdle();
  EXPECT_EQ(engine_.Heard(key).tokens, ExpectedStream(request));
  ExpectInnocents();
  engine_.ExpectClean();
}

TEST_F(EngineLossesTest, OthersAreToldWhyTheyWait) {
  SubmitInnocents();
  for (int loss = 0; loss < 2; ++loss) {
    watched_.Plan();
    watched_.LoseAndBegin();
  }
  const RequestKey late = engine_.MustSubmit(MakeRequest("late", 8, 4, 55));
  engine_.Plan();
  engine_.Advance(absl::Seconds(1));
  for (const char* name : {"i1", "late"}) {
    const auto timeline = engine_.core().Explain(name, engine_.now());
    ASSERT_TRUE(timeline.ok()) << timeline.status();
    const WaitReason reason = timeline->intervals.back().why.reason;
    EXPECT_TRUE(reason == WaitReason::kOtherAlone ||
                reason == WaitReason::kBehind)
        << name << ": " << WaitReasonName(reason);
  }
  engine_.RunUntilIdle();
  EXPECT_EQ(engine_.Heard(late).num_last_words, 1);
  engine_.ExpectClean();
}

TEST(EngineLossesWithPreemptionTest, APreemptedOneWhoseStepRunsIsBlamed) {
  EngineOptions options = Options();
  options.forced_preemption_period = 2;
  options.run_ahead_depth = 2;
  Watched watched(options);
  const EngineRequest request = MakeRequest("a", 9, 20, 1);
  const RequestKey key = watched.MustSubmit(request);
  const RequestKey poison = watched.MustSubmit(MakeRequest("p", 20, 50, 99));
  EXPECT_EQ(watched.RunWith("p").size(), 3u);
  EXPECT_EQ(watched.engine.Heard(poison).status.code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(watched.engine.Heard(key).tokens, ExpectedStream(request));
  watched.engine.ExpectClean();
}

TEST(EngineLossesOfReservedMemoryTest, APoisonEndsAlone) {
  EngineOptions options = Options();
  options.kv_manager = "orca_oracle";
  options.scheduling_policy = "orca";
  Watched watched(options);
  std::vector<EngineRequest> others;
  std::vector<RequestKey> keys;
  for (int i = 0; i < 4; ++i) {
    others.push_back(MakeRequest("i" + std::to_string(i), 9 + i, 12, i));
    keys.push_back(watched.MustSubmit(others[i]));
  }
  const RequestKey poison = watched.MustSubmit(MakeRequest("p", 20, 50, 99));
  EXPECT_EQ(watched.RunWith("p").back(), Watched::Names({"p"}));
  EXPECT_EQ(watched.engine.Heard(poison).status.code(),
            absl::StatusCode::kInternal);
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(watched.engine.Heard(keys[i]).tokens, ExpectedStream(others[i]));
  }
  watched.engine.ExpectClean();
}

}  // namespace
}  // namespace quire
