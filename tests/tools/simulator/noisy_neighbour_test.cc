// SPDX-License-Identifier: Apache-2.0
//
// Tenants against each other on a modelled H200: an 8B model, prefix cache and
// fairness as they are by default, a neighbour that sends more than the machine
// serves.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tools/simulator/data_file.h"
#include "tools/simulator/simulation.h"

namespace quire {
namespace {

constexpr int64_t kSeconds = 60;

SimulationOptions Options() {
  SimulationOptions options;
  options.cost = *LoadCostModel(PresetFile("h200_llama8b"));
  options.engine.max_model_len = 8192;
  // What the flood sends waits, so that all of it is backlog.
  options.engine.max_queued_requests = 1000000;
  options.engine.max_queued_tokens = int64_t{1} << 40;
  options.prefix_cache = true;
  options.stop_at_last_arrival = true;
  return options;
}

std::vector<SimulatedRequest> Requests(const std::string& tenant,
                                       double prompt_len, double output_len,
                                       double rate, uint64_t seed) {
  return MakeWorkload(MakeLognormalLengths(prompt_len, output_len,
                                           /*sigma=*/0.5, 4000, 2000, seed),
                      {.rate = rate,
                       .num_requests = static_cast<int64_t>(kSeconds * rate),
                       .seed = seed,
                       .tenant = tenant});
}

const TenantResult& Of(const SimulationResult& result,
                       const std::string& tenant) {
  for (const TenantResult& found : result.tenants) {
    if (found.tenant == tenant) return found;
  }
  ADD_FAILURE() << tenant << " finished nothing";
  static const TenantResult& none = *new TenantResult();
  return none;
}

// Weighted tokens, at the costs by default.
double Served(const TenantResult& tenant) {
  return tenant.num_prompt_tokens + 2. * tenant.num_output_tokens;
}

// The victim's p99 time to first token beside the flood over that alone.
void ExpectAtMostAFifthMore(const SimulationOptions& options,
                            const std::vector<SimulatedRequest>& victim) {
  const auto flood = Requests("noisy", 500, 100, /*rate=*/100, /*seed=*/2);
  const auto alone = Simulate(options, victim);
  const auto beside = Simulate(
      options, MergeWorkloads({victim, flood}, victim.back().arrival_ns));
  ASSERT_TRUE(alone.ok()) << alone.status();
  ASSERT_TRUE(beside.ok()) << beside.status();
  const double p99_alone = Of(*alone, "victim").ttft.p99;
  EXPECT_LE(Of(*beside, "victim").ttft.p99, 1.2 * p99_alone) << p99_alone;
  // The flood has what the victim leaves of a machine that is never idle.
  EXPECT_GT(Served(Of(*beside, "noisy")), Served(Of(*beside, "victim")));
  EXPECT_GT(beside->busy_share, 0.99);
}

TEST(NoisyNeighbourTest, CostsShortPromptsAtMostAFifthByDefault) {
  ExpectAtMostAFifthMore(Options(), Requests("victim", 500, 100, 20, 1));
}

// Three prompts in a row are more than a burst by default.
TEST(NoisyNeighbourTest, CostsLongPromptsAtMostAFifthIfTheirBurstsMayBeLong) {
  SimulationOptions options = Options();
  options.engine.tenants.burst_tokens = 32768;
  ExpectAtMostAFifthMore(options, Requests("victim", 3000, 100, 3.5, 1));
}

// (sum x)^2 / (n sum x^2): 1 if all are equal.
TEST(NoisyNeighbourTest, BackloggedTenantsAreServedEqually) {
  SimulationOptions options = Options();
  options.engine.max_num_seqs = 1024;
  std::vector<std::vector<SimulatedRequest>> floods;
  constexpr struct {
    double prompt_len, output_len, rate;
  } kKinds[] = {{60, 120, 120}, {500, 100, 80}, {1000, 2, 60}, {3000, 20, 20}};
  for (const auto& kind : kKinds) {
    floods.push_back(Requests(absl::StrCat("t", floods.size()), kind.prompt_len,
                              kind.output_len, kind.rate, floods.size() + 1));
  }
  const auto result = Simulate(
      options, MergeWorkloads(floods, int64_t{1000000000} * kSeconds / 2));
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->tenants.size(), 4);
  double sum = 0;
  double squares = 0;
  std::string all;
  for (const TenantResult& tenant : result->tenants) {
    sum += Served(tenant);
    squares += Served(tenant) * Served(tenant);
    absl::StrAppend(&all, " ", Served(tenant));
  }
  EXPECT_GE(sum * sum / (4 * squares), 0.95) << all;
}

}  // namespace
}  // namespace quire
