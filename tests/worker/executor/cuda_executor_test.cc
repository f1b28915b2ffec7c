// SPDX-License-Identifier: Apache-2.0
//
// A whole executor on the GPU: the demo model says there what it says on the
// CPU and in Hugging Face transformers.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/worker/collective/memory_board.h"
#include "worker/executor/load_executor.h"

namespace quire {
namespace {

struct Sample {
  std::vector<TokenId> prompt;
  std::vector<TokenId> output;
};

// A file of the test's data, links resolved.
std::string DataFile(const std::string& path) {
  const char* root = std::getenv("TEST_SRCDIR");
  return std::filesystem::canonical(
             absl::StrCat(root == nullptr ? "" : root, "/quire/", path))
      .string();
}

std::vector<Sample> GoldenSamples() {
  std::ifstream file(DataFile("tests/golden/demo_model/expected_samples.json"));
  const nlohmann::json json = nlohmann::json::parse(file);
  std::vector<Sample> samples;
  for (const nlohmann::json& item : json.at("samples")) {
    samples.push_back(
        {item.at("prompt_token_ids").get<std::vector<TokenId>>(),
         item.at("output_token_ids").get<std::vector<TokenId>>()});
  }
  return samples;
}

constexpr int32_t kBlockSize = 16;
constexpr int32_t kMaxModelLen = 256;
constexpr int32_t kBlocksPerSeq = kMaxModelLen / kBlockSize;

constexpr int64_t kPageBytes = 2 << 20;

// `is_virtual`: rows of virtual memory, in place of blocks.
std::unique_ptr<Executor> Load(const DeviceOptions& device,
                               const RealClock* clock, MemoryBoard* board,
                               bool is_virtual = false) {
  LoadSpec spec;
  spec.virtual_page_bytes = is_virtual ? kPageBytes : 0;
  spec.model_path =
      std::filesystem::path(DataFile("tools/demo_model/model/config.json"))
          .parent_path()
          .string();
  spec.block_size = kBlockSize;
  spec.limits.max_num_batched_tokens = 512;
  spec.limits.max_num_seqs = 32;
  spec.limits.max_model_len = kMaxModelLen;
  auto executor = LoadExecutor(device, spec, board, clock,
                               [](const char*, int64_t, int64_t) {});
  EXPECT_TRUE(executor.ok()) << executor.status();
  if (!executor.ok()) return nullptr;
  EXPECT_TRUE((*executor)->AllocateKv(32 * kBlocksPerSeq, 0).ok());
  return *std::move(executor);
}

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
