// SPDX-License-Identifier: Apache-2.0
//
// Beam searches inside the engine, over workers that check every plan: what is
// found depends on the request alone, and blocks are shared while it is sought.
#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/engine/beam_group.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/beam_reference.h"
#include "tests/coordinator/engine/engine_harness.h"
#include "tests/coordinator/engine/exactness_setting.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {
namespace {

using Tokens = std::vector<TokenId>;

// An engine whose outputs are kept by sequence.
class Driver {
 public:
  Driver(const EngineOptions& options, int32_t num_blocks,
         int32_t num_host_blocks = 0)
      : workers_({.num_blocks = num_blocks,
                  .block_size = options.block_size,
                  .max_num_seqs = options.max_num_seqs,
                  .num_host_blocks = num_host_blocks,
                  .sliding_window = options.sliding_window}) {
    auto core = EngineCore::Create(options);
    EXPECT_TRUE(core.ok()) << core.status();
    core_ = *std::move(core);
    BeginGroup();
  }

  void BeginGroup() {
    EXPECT_TRUE(core_->OnGroupReady(workers_.Begin(++epoch_), now_).ok());
  }
  void LoseGroup() {
    core_->OnGroupLost(Epoch(epoch_), absl::UnavailableError("gone"), now_);
    while (workers_.TakeResult().has_value()) {
    }
  }

  RequestKey Submit(const EngineRequest& request) {
    const RequestKey key(++last_key_);
    core_->AddRequest(key, request, now_);
    return key;
  }

  // Plans as far ahead as the engine wants, then one result. False: idle.
  bool Step() {
    now_ += absl::Milliseconds(1);
    while (const StepPlan* plan = core_->Plan(now_)) {
      num_forks_ += static_cast<int64_t>(plan->forks.size());
      workers_.Send(*plan);
    }
    most_in_flight_ = std::max(most_in_flight_, core_->num_in_flight());
    auto result = workers_.TakeResult();
    if (!result.has_value()) return false;
    core_->OnStepResult(*std::move(result), now_);
    EngineEffects effects = core_->TakeEffects();
    for (SequenceOutput& output : effects.outputs) {
      outputs_[output.request].push_back(std::move(output));
    }
    EXPECT_TRUE(workers_.status().ok()) << workers_.status();
    return true;
  }

  void Run() {
    for (int64_t i = 0; i < 1000000; ++i) {
      if (!Step()) break;
      if (i % 16 == 0) {
        const absl::Status status = core_->CheckInvariants();
        ASSERT_TRUE(status.ok()) << status;
      }
    }
    ExpectClean();
  }

  void ExpectClean() {
    while (Step()) {
    }
    EXPECT_TRUE(core_->is_idle());
    const absl::Status status = core_->CheckInvariants();
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(workers_.num_live_slots(), 0);
    const EngineStats stats = core_->Stats();
    EXPECT_EQ(stats.num_free_blocks + stats.num_cached_blocks,
              stats.num_blocks);
  }

  EngineCore& core() { return *core_; }
  SimulatedWorkerGroup& workers() { return workers_; }
  absl::Time now() const { return now_; }
  int64_t num_forks() const { return num_forks_; }
  int32_t most_in_flight() const { return most_in_flight_; }
  const std::vector<SequenceOutput>& outputs(RequestKey key) {
    return outputs_[key];
  }

 private:
  std::unique_ptr<EngineCore> core_;
  SimulatedWorkerGroup workers_;
  absl::Time now_ = absl::UnixEpoch();
  uint64_t epoch_ = 0;
  uint64_t last_key_ = 0;
  int64_t num_forks_ = 0;
  int32_t most_in_flight_ = 0;
  std::map<RequestKey, std::vector<SequenceOutput>> outputs_;
};

void ExpectFound(const EngineRequest& request,
                 const std::vector<SequenceOutput>& outputs) {
  const std::vector<Tokens> found = FindBeams(request);
  ASSERT_EQ(outputs.size(), found.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(outputs[i].status.ok()) << outputs[i].status;
    EXPECT_EQ(outputs[i].index, i);
    EXPECT_EQ(outputs[i].token_offset, 0);
    EXPECT_EQ(Tokens(outputs[i].tokens.begin(), outputs[i].tokens.end()),
              found[i]);
    EXPECT_NE(outputs[i].finish_reason, FinishReason::kNone);
  }
}

// Searches of all widths, of which half meet stop tokens, among others that
// sample.
std::vector<EngineRequest> Requests() {
  std::mt19937 random(11);
  std::vector<EngineRequest> requests;
  for (int i = 0; i < 40; ++i) {
    const int32_t num_prompt_tokens = 1 + static_cast<int32_t>(random() % 90);
    const int32_t max_tokens = 1 + static_cast<int32_t>(random() % 40);
    EngineRequest request =
        MakeBeams(absl::StrCat("r", i), num_prompt_tokens, max_tokens,
              2 + static_cast<int32_t>(random() % 15), /*seed=*/i + 1);
    if (i % 3 == 2) {
      request.sampling.beam_width = 0;
      request.sampling.n = request.sampling.best_of = 1;
      request.sampling.slot.temperature = 1;
    } else if (i % 2 == 0) {
      // What the search is about to meet, and so will meet again.
      const Tokens best = FindBeams(request)[0];
      request.sampling.stop_token_ids = {best[best.size() / 2]};
      request.sampling.slot.min_tokens =
          std::min<int32_t>(i % 5, request.sampling.max_tokens);
      request.sampling.early_stopping = static_cast<EarlyStopping>(i % 3);
      request.sampling.length_penalty = 0.5f * (i % 4);
    }
    request.sampling.n = 1 + (request.sampling.n - 1) * (i % 2);
    requests.push_back(std::move(request));
  }
  return requests;
}

EngineOptions RequeueingOptions(const Setting& setting) {
  EngineOptions options = OptionsOf(setting);
  options.on_group_lost = OnGroupLostAction::kRequeue;
  return options;
}

class EngineBeamsTest : public testing::TestWithParam<Setting> {
 protected:
  void Expect(const std::vector<EngineRequest>& requests,
              const std::vector<RequestKey>& keys, Driver* driver) {
    for (size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(requests[i].request_id);
      const std::vector<SequenceOutput>& outputs = driver->outputs(keys[i]);
      if (requests[i].sampling.beam_width > 0) {
        ExpectFound(requests[i], outputs);
        continue;
      }
      Tokens tokens;
      for (const SequenceOutput& output : outputs) {
        tokens.insert(tokens.end(), output.tokens.begin(), output.tokens.end());
      }
      EXPECT_EQ(tokens,
                SimulatedStream(requests[i].prompt, requests[i].sampling));
    }
  }
};

TEST_P(EngineBeamsTest, EverySearchFindsWhatItFindsAlone) {
  Driver driver(RequeueingOptions(GetParam()), GetParam().num_blocks,
                GetParam().num_host_blocks);
  const std::vector<EngineRequest> requests = Requests();
  std::vector<RequestKey> keys;
  for (const EngineRequest& request : requests) {
    keys.push_back(driver.Submit(request));
  }
  driver.Run();
  Expect(requests, keys, &driver);
  EXPECT_GT(driver.num_forks(), 100);
  EXPECT_EQ(driver.core().Stats().num_preemptions > 0, GetParam().must_preempt);
  EXPECT_EQ(driver.workers().num_swaps() > 0, GetParam().num_host_blocks > 0);
}

TEST_P(EngineBeamsTest, LossesAndResyncsAndCancelsChangeNothingForOthers) {
  Driver driver(RequeueingOptions(GetParam()), GetParam().num_blocks,
                GetParam().num_host_blocks);
  const std::vector<EngineRequest> requests = Requests();
  std::vector<RequestKey> keys;
  for (const EngineRequest& request : requests) {
    keys.push_back(driver.Submit(request));
  }
  std::vector<RequestKey> cancelled;
  for (int i = 1; i < 200; ++i) {
    if (!driver.Step()) break;
    if (i % 37 == 0) {
      driver.LoseGroup();
      driver.BeginGroup();
    }
    if (i % 23 == 0) driver.workers().CorruptNextDigest();
    if (i % 29 == 0) {
      cancelled.push_back(driver.Submit(Requests()[i % 40]));
      driver.Step();
    }
    if (i % 31 == 0 && !cancelled.empty()) {
      driver.core().FinishRequest(cancelled.back(), FinishReason::kCancelled,
                                  driver.now());
      cancelled.pop_back();
    }
  }
  for (RequestKey key : cancelled) {
    driver.core().FinishRequest(key, FinishReason::kCancelled, driver.now());
  }
  driver.Run();
  Expect(requests, keys, &driver);
}

// The largest search, 16 beams of 130 tokens, fits every pool below.
INSTANTIATE_TEST_SUITE_P(
    Schedules, EngineBeamsTest,
    testing::Values(
        Setting{16, 512, 16, 4096, 0, 1}, Setting{16, 512, 16, 4096, 0, 2},
        Setting{64, 512, 16, 4096, 0, 2}, Setting{64, 256, 1, 8192, 0, 3},
        Setting{40, 300, 4, 4096, 0, 2},
        // Steps too small for all beams of a search.
        Setting{32, 7, 8, 4096, 0, 2}, Setting{32, 16, 16, 4096, 0, 1},
        Setting{64, 512, 16, 4096, 3, 2, true},
        Setting{64, 64, 4, 4096, 5, 1, true},
        Setting{32, 11, 8, 4096, 4, 3, true},
        Setting{250, 512, 16, 150, 0, 2, true},
        Setting{250, 512, 4, 540, 0, 2, true},
        Setting{250, 256, 1, 2100, 0, 2, true},
        // A window smaller than most prompts, in pools for it alone too.
        Setting{64, 512, 16, 4096, 0, 2, false, 24},
        Setting{64, 64, 4, 4096, 3, 2, true, 9},
        Setting{250, 512, 16, 60, 0, 2, true, 24},
        Setting{250, 64, 4, 130, 0, 3, true, 24},
        Setting{250, 256, 1, 400, 0, 2, true, 24},
        // The preempted are swapped.
        Setting{250, 512, 16, 150, 0, 2, true, 0, 400},
        Setting{250, 512, 4, 540, 0, 1, true, 0, 200}),
    Name);

TEST(EngineBeamsTest, ThePromptIsComputedOnceAndItsBlocksAreShared) {
  EngineOptions options;
  options.max_num_seqs = 16;
  options.block_size = 4;
  Driver driver(options, /*num_blocks=*/512);
  const EngineRequest request = MakeBeams("r", 40, 20, 8);
  driver.Submit(request);
  int32_t most_held = 0;
  while (driver.Step()) {
    const EngineStats stats = driver.core().Stats();
    most_held = std::max(most_held, stats.num_blocks - stats.num_free_blocks -
                                        stats.num_cached_blocks);
  }
  const EngineCounters counters = driver.core().TakeMetrics().counters;
  EXPECT_EQ(counters.num_prefill_tokens, 40);
  EXPECT_EQ(counters.num_decode_tokens, 8 * 19);
  // Ten blocks of prompt once; each beam has five of its own at most.
  EXPECT_LE(most_held, 10 + 8 * 6);
  EXPECT_GT(most_held, 10);
  EXPECT_GT(counters.num_table_block_steps, 2 * counters.num_held_block_steps);
  driver.ExpectClean();
}

TEST(EngineBeamsTest, BeamsSwappedInTheMiddleOfASearchGoOnWhereTheyWere) {
  EngineOptions options;
  options.max_num_seqs = 32;
  options.block_size = 4;
  options.preemption_mode = PreemptionMode::kSwap;
  options.watermark = 0;
  // The search, after the other has grown, does not fit beside it.
  Driver driver(options, /*num_blocks=*/8 * 12, /*num_host_blocks=*/256);
  EngineRequest other = MakeRequest("other", 150, 80, 3);
  EngineRequest search = MakeBeams("search", 20, 28, 8, 7);
  const RequestKey other_key = driver.Submit(other);
  const RequestKey key = driver.Submit(search);
  // Something else takes what the search leaves.
  EngineRequest third = MakeRequest("third", 150, 60, 4);
  third.priority = -1;
  for (int i = 0; i < 15; ++i) driver.Step();
  const RequestKey third_key = driver.Submit(third);
  driver.Run();
  ExpectFound(search, driver.outputs(key));
  EXPECT_FALSE(driver.outputs(other_key).empty());
  EXPECT_FALSE(driver.outputs(third_key).empty());
  const EngineCounters counters = driver.core().TakeMetrics().counters;
  EXPECT_GT(counters.num_preemptions, 0);
  EXPECT_GT(counters.num_swapped_out_blocks, 0);
  EXPECT_GT(counters.num_swapped_in_blocks, 0);
}

TEST(EngineBeamsTest, TheLastOfSeveralWritersNeedsNoBlockForACopy) {
  EngineOptions options;
  options.max_num_seqs = 8;
  options.watermark = 0;
  // The holder has three blocks all along. The search has one full block of
  // prompt in common and a partly filled one, which becomes four: five in all,
  // and no more are there.
  Driver driver(options, /*num_blocks=*/3 + 5);
  driver.Submit(MakeRequest("holder", 33, 14, 2));
  const EngineRequest search = MakeBeams("search", 20, 12, 4);
  const RequestKey key = driver.Submit(search);
  driver.Run();
  ExpectFound(search, driver.outputs(key));
  EXPECT_EQ(driver.core().Stats().num_preemptions, 0);
  EXPECT_EQ(driver.core().TakeMetrics().counters.num_refused_growths, 0);
}

TEST(EngineBeamsTest, OthersRunAheadWhileASearchWaitsForItsResults) {
  EngineOptions options;
  options.max_num_seqs = 16;
  Driver driver(options, /*num_blocks=*/512);
  const RequestKey search = driver.Submit(MakeBeams("search", 20, 30, 4));
  driver.Run();
  EXPECT_EQ(driver.most_in_flight(), 1);
  EXPECT_EQ(driver.outputs(search).size(), 4);
  driver.Submit(MakeBeams("again", 20, 30, 4));
  driver.Submit(MakeRequest("other", 20, 30));
  driver.Run();
  EXPECT_EQ(driver.most_in_flight(), 2);
}

TEST(EngineBeamsTest, ACancelledSearchGivesEverythingBackAtOnce) {
  EngineOptions options;
  options.max_num_seqs = 16;
  options.block_size = 4;
  for (int num_steps = 0; num_steps < 12; ++num_steps) {
    Driver driver(options, /*num_blocks=*/256);
    const RequestKey key = driver.Submit(MakeBeams("r", 30, 20, 8));
    for (int i = 0; i < num_steps; ++i) driver.Step();
    driver.core().FinishRequest(key, FinishReason::kCancelled, driver.now());
    const EngineStats stats = driver.core().Stats();
    EXPECT_EQ(stats.num_free_blocks + stats.num_cached_blocks,
              stats.num_blocks);
    driver.ExpectClean();
    EXPECT_TRUE(driver.outputs(key).empty());
  }
}

}  // namespace
}  // namespace quire
