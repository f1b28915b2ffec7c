// SPDX-License-Identifier: Apache-2.0
//
// The baselines through the whole engine: the same tokens as paged memory, and
// nobody who fits alone waits for ever, however the pool is scattered.
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"
#include "tests/coordinator/engine/served_load.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {
namespace {

constexpr int32_t kMaxModelLen = 256;  // tokens
constexpr int32_t kBlockSize = 4;      // tokens

struct Baseline {
  std::string kv_manager;
  std::string scheduling_policy;
};

EngineOptions Options(const Baseline& baseline) {
  EngineOptions options;
  options.kv_manager = baseline.kv_manager;
  options.scheduling_policy = baseline.scheduling_policy;
  options.max_model_len = kMaxModelLen;
  options.block_size = kBlockSize;
  options.max_num_seqs = 16;
  options.max_num_batched_tokens = 96;
  return options;
}

void ExpectServed(EngineHarness* engine, const ServedLoad& load) {
  load.ExpectServed();
  EXPECT_EQ(engine->core().Stats().num_preemptions, 0);
}

class BaselinesTest : public testing::TestWithParam<Baseline> {};

TEST_P(BaselinesTest, EveryStreamIsThatOfTheRequestAlone) {
  // 64 blocks are the longest reservation: two of those fit, and a rest.
  EngineHarness engine(Options(GetParam()), /*num_blocks=*/149);
  ServedLoad load(&engine);
  for (int i = 0; i < 60; ++i) {
    EngineRequest request = MakeRequest(absl::StrCat("r", i), 1 + i * 37 % 180,
                                        1 + i * 13 % 70, /*seed=*/i);
    if (i % 3 == 0) {
      for (TokenId id = i; id < kSimulatedVocabSize; id += 20) {
        request.sampling.stop_token_ids.push_back(id);
      }
      request.sampling.slot.stop_token_ids = request.sampling.stop_token_ids;
    }
    load.Submit(std::move(request));
  }
  engine.RunUntilIdle();
  ExpectServed(&engine, load);
}

TEST_P(BaselinesTest, WhoeverFitsAloneFinishesUnderRandomLoads) {
  for (int seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    EngineOptions options = Options(GetParam());
    options.max_num_seqs = 1 + random() % 12;
    options.max_num_batched_tokens = 1 + random() % 80;
    options.run_ahead_depth = 1 + random() % 3;
    EngineHarness engine(options, /*num_blocks=*/1 + random() % 150);
    ServedLoad load(&engine);
    load.SubmitAtRandom(80, random);
    ExpectServed(&engine, load);
    if (HasFailure()) {
      FAIL() << "seed " << seed;
    }
  }
}

TEST_P(BaselinesTest, AScatteredPoolMakesTheHeadWaitAndStarvesNobody) {
  if (GetParam().kv_manager != "orca_oracle") GTEST_SKIP();
  EngineHarness engine(Options(GetParam()), /*num_blocks=*/16);
  ServedLoad load(&engine);
  // Four ranges of four blocks; the first and third end early, then somebody
  // wants eight blocks in a row.
  for (int i = 0; i < 4; ++i) {
    load.Submit(MakeRequest(absl::StrCat("r", i), 10, i % 2 == 0 ? 2 : 6, i));
  }
  load.Submit(MakeRequest("wide", 20, 10, 4));
  engine.RunUntilIdle();
  ExpectServed(&engine, load);
}

TEST_P(BaselinesTest, SiblingsHaveMemoryOfTheirOwn) {
  // Three of the longest reservations, and a rest.
  EngineHarness engine(Options(GetParam()), /*num_blocks=*/3 * 64 + 5);
  std::vector<RequestKey> keys;
  for (int i = 0; i < 6; ++i) {
    EngineRequest request = MakeRequest(absl::StrCat("r", i), 30, 20, i);
    request.sampling.n = 3;
    request.sampling.best_of = 3;
    keys.push_back(engine.MustSubmit(std::move(request)));
  }
  engine.RunUntilIdle();
  for (RequestKey key : keys) {
    for (int32_t index = 0; index < 3; ++index) {
      EXPECT_EQ(engine.Heard(key, index).tokens.size(), 20);
    }
  }
  ExpectServed(&engine, ServedLoad(&engine));
}

TEST_P(BaselinesTest, BeamsAreRefused) {
  EngineHarness engine(Options(GetParam()), /*num_blocks=*/256);
  EngineRequest request = MakeRequest("beams", 30, 20);
  request.sampling.beam_width = 2;
  EXPECT_EQ(engine.Submit(request).status().message(),
            absl::StrCat("beams share memory, which --kv_manager=",
                         GetParam().kv_manager, " does not; paged does"));
}

TEST_P(BaselinesTest, ALostGroupsRequestsFitTheNextOne) {
  EngineOptions options = Options(GetParam());
  options.on_group_lost = OnGroupLostAction::kRequeue;
  EngineHarness engine(options, /*num_blocks=*/64);
  ServedLoad load(&engine);
  for (int i = 0; i < 12; ++i) {
    load.Submit(MakeRequest(absl::StrCat("r", i), 20 + i, 40 + i, i));
  }
  for (int life = 0; life < 5; ++life) {
    engine.RunUntilIdle(/*max_steps=*/13);
    engine.LoseGroup("a rank died");
    engine.BeginGroup();
  }
  engine.RunUntilIdle();
  load.ExpectServed();
  // Requests under which groups were lost run alone at first, for which others
  // make room.
  if (GetParam().scheduling_policy != "paged_fcfs") {
    EXPECT_EQ(engine.core().Stats().num_preemptions, 0);
  }
}

std::string Name(const testing::TestParamInfo<Baseline>& info) {
  return absl::StrCat(info.param.kv_manager, "_", info.param.scheduling_policy);
}

std::vector<Baseline> Baselines() {
  std::vector<Baseline> baselines;
  for (const char* manager : {"orca_max", "orca_pow2", "orca_oracle"}) {
    for (const char* policy : {"orca", "static_batch", "paged_fcfs"}) {
      baselines.push_back({manager, policy});
    }
  }
  return baselines;
}

INSTANTIATE_TEST_SUITE_P(All, BaselinesTest, testing::ValuesIn(Baselines()),
                         Name);

TEST(BaselinesTest, APolicyThatPreemptsNobodyWantsReservedMemory) {
  for (const char* policy : {"orca", "static_batch"}) {
    const absl::Status status =
        EngineCore::Create(Options({"paged", policy})).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(),
              absl::StrCat("--scheduling_policy=", policy,
                           " preempts nobody, but with --kv_manager=paged "
                           "those that run may run out of memory; it works "
                           "with orca_max, orca_pow2 and orca_oracle"));
  }
}

TEST(BaselinesTest, AStaticBatchRunsToItsLongest) {
  EngineHarness engine(Options({"orca_oracle", "static_batch"}),
                       /*num_blocks=*/256);
  engine.KeepPlans();
  engine.MustSubmit(MakeRequest("short", 8, 2, 1));
  engine.MustSubmit(MakeRequest("long", 8, 30, 2));
  engine.RunUntilIdle(/*max_steps=*/4);
  engine.MustSubmit(MakeRequest("late", 8, 2, 3));
  engine.RunUntilIdle();
  // The late one comes in when nobody else is left, though room was there.
  int32_t num_admissions = 0;
  for (const StepPlan& plan : engine.plans()) {
    if (plan.admitted.empty()) continue;
    ++num_admissions;
    EXPECT_TRUE(plan.decodes.empty());
  }
  EXPECT_EQ(num_admissions, 2);
}

}  // namespace
}  // namespace quire
