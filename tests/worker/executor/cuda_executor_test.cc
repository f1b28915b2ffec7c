// SPDX-License-Identifier: Apache-2.0
//
// A whole executor on the GPU: the demo model says there what it says on the
// CPU and in Hugging Face transformers.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/executor/demo_executor.h"

namespace quire {
namespace {

// All prompts at once, cut into chunks, decoded greedily for as many tokens as
// the golden file has.
std::vector<std::vector<TokenId>> Generate(Executor* executor,
                                           const std::vector<Sample>& samples,
                                           int32_t chunk_size,
                                           bool is_virtual = false) {
  std::vector<std::vector<TokenId>> outputs(samples.size());
  std::vector<int32_t> computed(samples.size(), 0);
  StepPlan plan;
  for (size_t i = 0; i < samples.size(); ++i) {
    AdmittedSlot admitted;
    admitted.slot = SlotId(static_cast<int32_t>(i));
    admitted.tokens = samples[i].prompt;
    admitted.num_prompt_tokens = static_cast<int32_t>(samples[i].prompt.size());
    admitted.sampling.temperature = 0;
    if (is_virtual) {
      const int32_t row = static_cast<int32_t>(samples.size() - 1 - i);
      admitted.cache = CacheRowId(row);
      plan.mappings.push_back(
          {CacheRowId(row), (kMaxModelLen - 1) / executor->block_tokens() + 1});
      plan.admitted.push_back(std::move(admitted));
      continue;
    }
    std::vector<BlockId> blocks;
    for (int32_t b = 0; b < kBlocksPerSeq; ++b) {
      blocks.push_back(
          BlockId(static_cast<int32_t>(b * samples.size() + i)));  // scattered
    }
    admitted.cache = std::move(blocks);
    plan.admitted.push_back(std::move(admitted));
  }
  while (true) {
    std::vector<size_t> sampled, chunked;
    for (size_t i = 0; i < samples.size(); ++i) {
      const auto length = static_cast<int32_t>(samples[i].prompt.size());
      if (outputs[i].size() == samples[i].output.size()) continue;
      if (computed[i] >= length) {
        plan.decodes.push_back(SlotId(static_cast<int32_t>(i)));
        sampled.push_back(i);
        continue;
      }
      const int32_t tokens = std::min(chunk_size, length - computed[i]);
      computed[i] += tokens;
      const bool is_last = computed[i] == length;
      plan.chunks.push_back({SlotId(static_cast<int32_t>(i)), tokens, is_last});
      if (is_last) chunked.push_back(i);
    }
    if (plan.decodes.empty() && plan.chunks.empty()) return outputs;
    sampled.insert(sampled.end(), chunked.begin(), chunked.end());
    StepResult result;
    const absl::Status status = executor->Step(plan, &result);
    EXPECT_TRUE(status.ok()) << status;
    if (!status.ok() || result.tokens.size() != sampled.size()) return outputs;
    for (size_t i = 0; i < sampled.size(); ++i) {
      outputs[sampled[i]].push_back(result.tokens[i]);
    }
    plan = StepPlan();
  }
}

class CudaExecutorTest : public testing::TestWithParam<bool> {};

TEST_P(CudaExecutorTest, SaysWhatTheCpuAndTransformersSay) {
  const std::vector<Sample> samples = GoldenSamples();
  ASSERT_GT(samples.size(), 4);
  const RealClock clock;
  MemoryBoard cpu_board, cuda_board;
  DeviceOptions cuda;
  cuda.device = "cuda";
  cuda.deterministic = GetParam();
  const auto on_cpu = Load(DeviceOptions(), &clock, &cpu_board);
  const auto on_cuda = Load(cuda, &clock, &cuda_board);
  ASSERT_NE(on_cpu, nullptr);
  ASSERT_NE(on_cuda, nullptr);
  const auto cpu = Generate(on_cpu.get(), samples, 32);
  const auto gpu = Generate(on_cuda.get(), samples, 32);
  for (size_t i = 0; i < samples.size(); ++i) {
    EXPECT_EQ(gpu[i], cpu[i]) << "sample " << i;
    // Each lead of the best logit was checked to survive rounding.
    EXPECT_EQ(gpu[i], samples[i].output) << "sample " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, CudaExecutorTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Deterministic" : "Fastest";
                         });

TEST(CudaExecutorModelTest, ChunksDoNotShowInTheDeterministicMode) {
  const std::vector<Sample> samples = GoldenSamples();
  const RealClock clock;
  DeviceOptions cuda;
  cuda.device = "cuda";
  cuda.deterministic = true;
  std::vector<std::vector<std::vector<TokenId>>> outputs;
  for (int32_t chunk_size : {3, 7, 512}) {
    MemoryBoard board;
    const auto executor = Load(cuda, &clock, &board);
    ASSERT_NE(executor, nullptr);
    outputs.push_back(Generate(executor.get(), samples, chunk_size));
  }
  EXPECT_EQ(outputs[0], outputs[1]);
  EXPECT_EQ(outputs[0], outputs[2]);
}

TEST(CudaExecutorModelTest, RowsOfVirtualMemoryGiveTheTokensOfBlocks) {
  const std::vector<Sample> samples = GoldenSamples();
  const RealClock clock;
  DeviceOptions cuda;
  cuda.device = "cuda";
  cuda.deterministic = true;
  MemoryBoard paged_board, virtual_board;
  const auto paged = Load(cuda, &clock, &paged_board);
  const auto rows = Load(cuda, &clock, &virtual_board, /*is_virtual=*/true);
  ASSERT_NE(paged, nullptr);
  ASSERT_NE(rows, nullptr);
  EXPECT_EQ(Generate(rows.get(), samples, 32, /*is_virtual=*/true),
            Generate(paged.get(), samples, 32));
}

// A prompt alone, of the first tokens of all samples' prompts.
Sample PromptOf(const std::vector<Sample>& samples, int32_t length) {
  Sample prompt;
  for (size_t i = 0; static_cast<int32_t>(prompt.prompt.size()) < length; ++i) {
    const std::vector<TokenId>& more = samples[i % samples.size()].prompt;
    prompt.prompt.insert(prompt.prompt.end(), more.begin(), more.end());
  }
  prompt.prompt.resize(length);
  prompt.output.resize(6);  // so many are wanted
  return prompt;
}

TEST(CudaExecutorModelTest, PromptsAloneAreReplayedAsTheyRun) {
  const std::vector<Sample> samples = GoldenSamples();
  const RealClock clock;
  DeviceOptions cuda;
  cuda.device = "cuda";
  cuda.deterministic = true;
  MemoryBoard recorded_board, eager_board;
  const auto recorded = Load(cuda, &clock, &recorded_board);
  cuda.enforce_eager = true;
  const auto eager = Load(cuda, &clock, &eager_board);
  ASSERT_NE(recorded, nullptr);
  ASSERT_NE(eager, nullptr);
  StepPlan release;
  release.released = {SlotId(0)};
  for (int32_t length : {1, 5, 8, 9, 16, 17, 33, 100, 128, 129, 200}) {
    const Sample prompt = PromptOf(samples, length);
    // Whole, and as it is after a prefix of another step.
    for (int32_t chunk : {512, 70}) {
      EXPECT_EQ(Generate(recorded.get(), {prompt}, chunk),
                Generate(eager.get(), {prompt}, chunk))
          << length << " tokens by " << chunk;
      for (Executor* executor : {recorded.get(), eager.get()}) {
        StepResult result;
        ASSERT_TRUE(executor->Step(release, &result).ok());
      }
    }
  }
}

// Parameters of every kind, a seat each.
SlotSampling SamplingOf(int32_t slot) {
  SlotSampling sampling;
  sampling.seed = 1000 + slot;
  sampling.temperature = slot % 5 == 4 ? 0.0f : 0.6f + 0.2f * (slot % 3);
  if (slot % 2 == 0) sampling.top_p = 0.85f;
  if (slot % 3 == 0) sampling.top_k = 30;
  if (slot % 4 == 1) sampling.min_p = 0.02f;
  if (slot % 3 == 1) sampling.repetition_penalty = 1.2f;
  if (slot % 3 == 2) sampling.frequency_penalty = 0.4f;
  if (slot % 4 == 0) sampling.presence_penalty = 0.6f;
  if (slot % 4 == 3) {
    sampling.min_tokens = 6;
    sampling.stop_token_ids = {0, 1, 2};
  }
  sampling.num_logprobs = slot % 2 == 1 ? slot : -1;
  return sampling;
}

// Every step begun before the one before has ended, where the device can.
std::vector<StepResult> SampleAll(Executor* executor,
                                  const std::vector<Sample>& samples,
                                  int32_t num_steps) {
  std::vector<StepResult> results;
  StepPlan plan;
  for (int32_t slot = 0; slot < 12; ++slot) {
    AdmittedSlot admitted;
    admitted.slot = SlotId(slot);
    admitted.tokens = samples[slot % samples.size()].prompt;
    admitted.num_prompt_tokens = static_cast<int32_t>(admitted.tokens.size());
    admitted.sampling = SamplingOf(slot);
    std::vector<BlockId> blocks;
    for (int32_t b = 0; b < kBlocksPerSeq; ++b) {
      blocks.push_back(BlockId(slot * kBlocksPerSeq + b));
    }
    admitted.cache = std::move(blocks);
    plan.chunks.push_back({SlotId(slot), admitted.num_prompt_tokens, true});
    plan.admitted.push_back(std::move(admitted));
  }
  const auto finish = [&] {
    const absl::Status status = executor->Finish(&results.emplace_back());
    EXPECT_TRUE(status.ok()) << status;
  };
  for (int32_t step = 0; step < num_steps; ++step) {
    while (executor->num_begun() > 0 && !executor->MayBegin(plan)) finish();
    const absl::Status status = executor->Begin(plan);
    EXPECT_TRUE(status.ok()) << status;
    if (step > 0 && executor->is_asynchronous()) {
      EXPECT_EQ(executor->num_begun(), 2) << "step " << step;
    }
    plan = StepPlan();
    for (int32_t slot = 0; slot < 12; ++slot) {
      plan.decodes.push_back(SlotId(slot));
    }
  }
  while (executor->num_begun() > 0) finish();
  return results;
}

// In float on both sides, so that logits differ by little more than 1e-5 and
// hardly ever decide a token.
TEST(CudaExecutorModelTest, RunsAheadWithAllParametersAndSamplesAsTheCpuDoes) {
  const std::vector<Sample> samples = GoldenSamples();
  const RealClock clock;
  MemoryBoard cpu_board, cuda_board;
  DeviceOptions cuda;
  cuda.device = "cuda";
  cuda.device_sampling = true;
  const auto on_cpu =
      Load(DeviceOptions(), &clock, &cpu_board, false, "float32");
  const auto on_cuda = Load(cuda, &clock, &cuda_board, false, "float32");
  ASSERT_NE(on_cpu, nullptr);
  ASSERT_NE(on_cuda, nullptr);
  const auto cpu = SampleAll(on_cpu.get(), samples, 40);
  const auto gpu = SampleAll(on_cuda.get(), samples, 40);
  ASSERT_EQ(gpu.size(), cpu.size());
  for (size_t step = 0; step < cpu.size(); ++step) {
    EXPECT_EQ(gpu[step].tokens, cpu[step].tokens) << "step " << step;
    ASSERT_EQ(gpu[step].logprobs.size(), cpu[step].logprobs.size());
    for (size_t i = 0; i < cpu[step].logprobs.size(); ++i) {
      const SampledLogprobs& a = gpu[step].logprobs[i];
      const SampledLogprobs& b = cpu[step].logprobs[i];
      EXPECT_EQ(a.sample_idx, b.sample_idx);
      EXPECT_NEAR(a.logprob, b.logprob, 2e-3) << step << " " << i;
      ASSERT_EQ(a.top.size(), b.top.size());
      for (size_t j = 0; j < a.top.size(); ++j) {
        EXPECT_NEAR(a.top[j].logprob, b.top[j].logprob, 2e-3);
      }
    }
  }
}

// A prompt more with each step, in a row that gets its memory while the step
// before runs: that of a row whose sequence has ended.
TEST(CudaExecutorModelTest, RunsAheadWhileRowsGetTheMemoryOfOthers) {
  const std::vector<Sample> samples = GoldenSamples();
  const RealClock clock;
  MemoryBoard board;
  DeviceOptions cuda;
  cuda.device = "cuda";
  cuda.device_sampling = true;
  constexpr int32_t kOutputs = 8;
  constexpr int32_t kRowGroups = 1;
  // Of the rows that sample, and of the one that did so last.
  const auto executor =
      Load(cuda, &clock, &board, /*is_virtual=*/true, "float32",
           /*num_blocks=*/(kOutputs + 1) * kRowGroups);
  ASSERT_NE(executor, nullptr);
  ASSERT_EQ((kMaxModelLen - 1) / executor->block_tokens() + 1, kRowGroups);
  const auto num_slots = static_cast<int32_t>(samples.size());
  const auto row_of = [&](int32_t slot) {
    return CacheRowId(num_slots - 1 - slot);
  };
  std::vector<std::vector<SlotId>> sampled;  // of each step
  std::vector<StepResult> results;
  const auto finish = [&] {
    const absl::Status status = executor->Finish(&results.emplace_back());
    EXPECT_TRUE(status.ok()) << status;
  };
  for (int32_t step = 0; step < num_slots + kOutputs - 1; ++step) {
    StepPlan plan;
    if (step >= kOutputs) plan.released = {SlotId(step - kOutputs)};
    if (step > kOutputs) plan.mappings = {{row_of(step - kOutputs - 1), 0}};
    for (int32_t slot = std::max(0, step - kOutputs + 1);
         slot < std::min(step, num_slots); ++slot) {
      plan.decodes.push_back(SlotId(slot));
    }
    sampled.push_back(plan.decodes);
    if (step < num_slots) {
      AdmittedSlot admitted;
      admitted.slot = SlotId(step);
      admitted.tokens = samples[step].prompt;
      admitted.num_prompt_tokens = static_cast<int32_t>(admitted.tokens.size());
      admitted.sampling.temperature = 0;
      admitted.cache = row_of(step);
      plan.mappings.push_back({row_of(step), kRowGroups});
      plan.chunks = {{SlotId(step), admitted.num_prompt_tokens, true}};
      plan.admitted.push_back(std::move(admitted));
      sampled.back().push_back(SlotId(step));
    }
    while (executor->num_begun() > 1) finish();
    ASSERT_TRUE(executor->MayBegin(plan)) << "step " << step;
    const absl::Status status = executor->Begin(plan);
    ASSERT_TRUE(status.ok()) << status;
  }
  while (executor->num_begun() > 0) finish();
  std::vector<std::vector<TokenId>> outputs(num_slots);
  for (size_t step = 0; step < results.size(); ++step) {
    ASSERT_EQ(results[step].tokens.size(), sampled[step].size());
    for (size_t i = 0; i < sampled[step].size(); ++i) {
      outputs[sampled[step][i].value()].push_back(results[step].tokens[i]);
    }
  }
  for (int32_t slot = 0; slot < num_slots; ++slot) {
    std::vector<TokenId> expected = samples[slot].output;
    expected.resize(std::min<size_t>(expected.size(), kOutputs));
    outputs[slot].resize(expected.size());
    EXPECT_EQ(outputs[slot], expected) << "slot " << slot;
  }
}

TEST(CudaExecutorModelTest, ProfilesItsLargestStep) {
  const RealClock clock;
  MemoryBoard board;
  DeviceOptions cuda;
  cuda.device = "cuda";
  LoadSpec spec;
  spec.model_path =
      std::filesystem::path(DataFile("tools/demo_model/model/config.json"))
          .parent_path()
          .string();
  spec.load_format = "dummy";
  spec.block_size = kBlockSize;
  spec.limits = {512, 32, kMaxModelLen};
  auto executor = LoadExecutor(cuda, spec, &board, &clock,
                               [](const char*, int64_t, int64_t) {});
  ASSERT_TRUE(executor.ok()) << executor.status();
  const auto profile = (*executor)->Profile(0.5);
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_GT(profile->kv_bytes, int64_t{1} << 30);
  EXPECT_GT(profile->largest_step, absl::ZeroDuration());
}

}  // namespace
}  // namespace quire
