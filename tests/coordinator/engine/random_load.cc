// SPDX-License-Identifier: Apache-2.0
#include "tests/coordinator/engine/random_load.h"

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/beam_reference.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

constexpr int32_t kMaxSequences = 4;  // of a request
constexpr int32_t kNumPrefixes = 5;
// Far more than any load takes: only a livelock reaches it.
constexpr int64_t kMaxSteps = 200000;

void DrawTenants(TenantConfig* tenants, std::mt19937_64& random) {
  tenants->tenants["one"].guaranteed_kv = 0.1 * (random() % 6);
  tenants->tenants["other"].guaranteed_kv = 0.1 * (random() % 5);
  tenants->tenants["third"].max_blocks = 1 + random() % 40;
  tenants->tenants["third"].weight = 3;
  tenants->burst_tokens = random() % 200;
}

EngineOptions DrawEngine(const RandomLoadOptions& load,
                         std::mt19937_64& random) {
  EngineOptions options;
  options.block_size = 1 << random() % 6;
  if (load.has_window) options.sliding_window = 2 + random() % 48;
  options.max_num_seqs = 4 + random() % 24;
  options.max_num_batched_tokens = 1 + random() % 100;
  options.max_model_len = load.max_model_len;
  options.run_ahead_depth = 1 + random() % 4;
  options.watermark = random() % 3 * 0.05;
  options.preemption_mode = static_cast<PreemptionMode>(random() % 3);
  options.enable_prefix_caching = random() % 3 > 0;
  // A search that is preempted before all of its beams have their next tokens
  // has gained nothing.
  if (!load.has_beams && random() % 3 == 0) {
    options.forced_preemption_period = 2 + random() % 9;
  }
  options.on_group_lost = OnGroupLostAction::kRequeue;
  if (load.has_tenants) DrawTenants(&options.tenants, random);
  if (load.has_rows) options.kv_manager = "virtual";
  return options;
}

// What the longest sequence holds at most.
int32_t MaxBlocksOf(const EngineOptions& options) {
  const auto blocks = [&](int32_t num_tokens) {
    return (num_tokens + options.block_size - 1) / options.block_size;
  };
  const int32_t all = blocks(options.max_model_len);
  if (options.sliding_window == 0) return all;
  return std::min(all, blocks(options.sliding_window - 1) + 1);
}

SimulatedGroupOptions DrawGroup(const EngineOptions& options,
                                std::mt19937_64& random) {
  const int32_t least = kMaxSequences * MaxBlocksOf(options);
  SimulatedGroupOptions group;
  group.num_blocks = static_cast<int32_t>(least + random() % least);
  group.num_host_blocks = random() % 3 == 0 ? 0 : random() % (2 * least);
  group.swap_blocks_per_second = 1 + random() % 100;
  group.prefill_tokens_per_second = 1 + random() % 100;
  return group;
}

class RandomLoad {
 public:
  RandomLoad(const RandomLoadOptions& load, uint64_t seed)
      : load_(load),
        seed_(seed),
        random_(seed),
        options_(DrawEngine(load, random_)),
        engine_(options_, DrawGroup(options_, random_)) {}

  void Serve(RandomLoadCounts* counts) {
    const size_t num_requests = 10 + random_() % load_.num_more_requests;
    while (sent_.size() < num_requests) {
      Send();
      if (random_() % 2 == 0) Run(random_() % 20);
      if (random_() % 8 == 0) Cancel();
      if (load_.is_disturbed) Disturb();
    }
    Run(kMaxSteps);
    for (const Sent& each : sent_) Expect(each, counts);
    counts->num_preemptions += engine_.core().Stats().num_preemptions;
    counts->num_swaps += engine_.workers().num_swaps();
    counts->num_resyncs += engine_.workers().num_resyncs();
    counts->num_cache_hit_tokens +=
        engine_.core().TakeMetrics().counters.num_cache_hit_tokens;
    engine_.ExpectClean();
  }

 private:
  struct Sent {
    EngineRequest request;
    RequestKey key;
    std::vector<bool> was_ended;  // from outside, by sequence
  };

  void Send() {
    EngineRequest request = DrawRequest();
    const RequestKey key = engine_.MustSubmit(request);
    const int32_t n = request.sampling.n;
    sent_.push_back({std::move(request), key, std::vector<bool>(n)});
  }

  EngineRequest DrawRequest() {
    const int32_t num_prompt_tokens = 1 + random_() % (load_.max_model_len - 1);
    const int32_t max_tokens =
        1 + random_() % (load_.max_model_len - num_prompt_tokens);
    const int32_t n = 1 + random_() % kMaxSequences;
    const uint64_t prefix = 1 + random_() % kNumPrefixes;
    const bool is_search = load_.has_beams && random_() % 3 == 0;
    const auto make = is_search ? MakeBeams : MakeGroup;
    EngineRequest request = make(absl::StrCat("r", sent_.size()),
                                 num_prompt_tokens, max_tokens, n, prefix);
    request.sampling.slot.seed = seed_ * 1000 + sent_.size();
    request.use_prefix_cache = random_() % 4 > 0;
    request.tenant = random_() % 2 > 0 ? "one" : "other";
    if (load_.has_tenants && random_() % 3 == 0) request.tenant = "third";
    if (load_.has_stops && random_() % 2 > 0) AddStops(20, &request);
    if (load_.is_disturbed) {
      request.priority = static_cast<int32_t>(random_() % 3);
      if (random_() % 8 == 0) {
        request.deadline = engine_.now() + absl::Milliseconds(random_() % 300);
      }
    }
    return request;
  }

  // Until nothing is left to do or so many results have come.
  void Run(int64_t num_results) {
    for (int64_t i = 0; i < num_results; ++i) {
      engine_.Plan();
      EXPECT_EQ(engine_.core().CheckInvariants(), absl::OkStatus());
      engine_.Advance(absl::Milliseconds(1));
      if (!engine_.Deliver() || testing::Test::HasFailure()) return;
      EXPECT_EQ(engine_.core().CheckInvariants(), absl::OkStatus());
    }
  }

  Sent& Any() { return sent_[random_() % sent_.size()]; }

  void Cancel() {
    Sent& victim = Any();
    victim.was_ended.assign(victim.was_ended.size(), true);
    engine_.Finish(victim.key, FinishReason::kCancelled);
  }

  void Disturb() {
    if (random_() % 4 == 0) EndASequence();
    if (random_() % 20 == 0) engine_.workers().CorruptNextDigest();
    if (random_() % 40 == 0) {
      engine_.LoseGroup("gone");
      engine_.BeginGroup();
    }
  }

  void EndASequence() {
    Sent& victim = Any();
    if (victim.request.sampling.beam_width > 0) return;
    const int32_t index = random_() % victim.request.sampling.n;
    victim.was_ended[index] = true;
    engine_.core().FinishSequence(victim.key, index, engine_.now());
  }

  std::vector<std::vector<TokenId>> StreamsOf(const EngineRequest& request) {
    if (request.sampling.beam_width > 0) return FindBeams(request);
    std::vector<std::vector<TokenId>> streams;
    for (int32_t index = 0; index < request.sampling.n; ++index) {
      streams.push_back(ExpectedStream(request, index));
    }
    return streams;
  }

  // What one that was ended has heard is the beginning of its tokens.
  void Expect(const Sent& sent, RandomLoadCounts* counts) {
    const std::vector<std::vector<TokenId>> streams = StreamsOf(sent.request);
    const bool has_failed = !engine_.Heard(sent.key).status.ok();
    EXPECT_TRUE(load_.is_disturbed || !has_failed);
    for (size_t index = 0; index < streams.size(); ++index) {
      SCOPED_TRACE(absl::StrCat(sent.request.request_id, " sequence ", index));
      const HeardStream& heard = engine_.Heard(sent.key, index);
      if (!sent.was_ended[index] && !has_failed) {
        EXPECT_EQ(heard.tokens, streams[index]);
        EXPECT_EQ(heard.num_last_words, 1);
        continue;
      }
      ++counts->num_cut_short;
      ASSERT_LE(heard.tokens.size(), streams[index].size());
      EXPECT_TRUE(std::equal(heard.tokens.begin(), heard.tokens.end(),
                             streams[index].begin()));
    }
  }

  const RandomLoadOptions load_;
  const uint64_t seed_;
  std::mt19937_64 random_;
  const EngineOptions options_;
  EngineHarness engine_;
  std::vector<Sent> sent_;
};

}  // namespace

RandomLoadCounts ServeRandomLoads(const RandomLoadOptions& options,
                                  uint64_t num_seeds) {
  RandomLoadCounts counts;
  for (uint64_t seed = 1; seed <= num_seeds; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RandomLoad(options, seed).Serve(&counts);
    if (testing::Test::HasFailure()) break;
  }
  return counts;
}

}  // namespace quire
