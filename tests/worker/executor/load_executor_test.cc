// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/load_executor.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "tests/worker/collective/memory_board.h"

namespace quire {
namespace {

// A folder with a tiny Llama's config; weights are dummies.
std::string ModelFolder() {
  const std::string folder = testing::TempDir();
  std::ofstream(folder + "/config.json") << R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "torch_dtype": "float32", "num_hidden_layers": 2, "hidden_size": 32,
    "intermediate_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 96,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "tie_word_embeddings": false,
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu"})";
  return folder;
}

LoadSpec Spec() {
  LoadSpec spec;
  spec.model_path = ModelFolder();
  spec.load_format = "dummy";
  spec.block_size = 4;
  spec.limits.max_num_batched_tokens = 16;
  spec.limits.max_num_seqs = 2;
  spec.limits.max_model_len = 32;
  return spec;
}

void Ignore(const char*, int64_t, int64_t) {}

TEST(LoadExecutorTest, TwoRanksOfARealModelSampleTheSameToken) {
  const RealClock clock;
  MemoryBoard board;
  uint64_t digests[2] = {0, 1};
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      LoadSpec spec = Spec();
      spec.rank = rank;
      spec.world_size = 2;
      DeviceOptions device;
      device.num_threads = 1;
      std::set<std::string> phases;
      const auto executor =
          LoadExecutor(device, spec, &board, &clock,
                       [&](const char* phase, int64_t done, int64_t total) {
                         phases.insert(phase);
                         EXPECT_LE(done, total);
                       });
      ASSERT_TRUE(executor.ok()) << executor.status();
      EXPECT_EQ(phases, (std::set<std::string>{"collective", "weights"}));
      const auto profile = (*executor)->Profile(1.0);
      ASSERT_TRUE(profile.ok()) << profile.status();
      EXPECT_GT(profile->kv_bytes, 0);
      EXPECT_GT(profile->largest_step, absl::ZeroDuration());
      ASSERT_TRUE((*executor)->AllocateKv(8, 0).ok());
      StepPlan plan;
      AdmittedSlot admitted;
      admitted.slot = SlotId(0);
      admitted.tokens = {1, 5, 9};
      admitted.num_prompt_tokens = 3;
      admitted.cache = std::vector<BlockId>{BlockId(2)};
      plan.admitted = {admitted};
      plan.chunks = {{SlotId(0), 3, true}};
      StepResult result;
      const absl::Status status = (*executor)->Step(plan, &result);
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_EQ(result.tokens.size(), rank == 0 ? 1 : 0);
      digests[rank] = result.token_digest;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(digests[0], digests[1]);
}

TEST(LoadExecutorTest, PagesAreNotChosenBehindASlidingWindow) {
  const std::string folder = testing::TempDir() + "/mistral";
  std::filesystem::create_directory(folder);
  std::ofstream(folder + "/config.json") << R"({
    "architectures": ["MistralForCausalLM"], "model_type": "mistral",
    "torch_dtype": "float32", "num_hidden_layers": 2, "hidden_size": 32,
    "intermediate_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 96, "sliding_window": 24,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "tie_word_embeddings": false,
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu"})";
  const RealClock clock;
  MemoryBoard board;
  DeviceOptions device;
  device.num_threads = 1;
  LoadSpec spec = Spec();
  spec.model_path = folder;
  spec.limits.sparse_pages = 4;
  EXPECT_EQ(
      LoadExecutor(device, spec, &board, &clock, Ignore).status().message(),
      "--sparse_attention=top_pages:4 does not work with the model's sliding "
      "window of 24 tokens: leave the flag out, or want --max_model_len=24");
  spec.limits.max_model_len = 24;
  const auto loaded = LoadExecutor(device, spec, &board, &clock, Ignore);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
}

TEST(LoadExecutorTest, WhatCannotBeLoadedSaysWhy) {
  const RealClock clock;
  MemoryBoard board;
  const DeviceOptions device;
  const auto error = [&](const LoadSpec& spec) {
    return LoadExecutor(device, spec, &board, &clock, Ignore).status();
  };
  LoadSpec spec = Spec();
  spec.model_path = "/nonexistent";
  EXPECT_TRUE(absl::IsNotFound(error(spec))) << error(spec);
  spec = Spec();
  spec.dtype = "int3";
  EXPECT_EQ(error(spec).message(),
            "dtype \"int3\" is not one of auto, float32, bfloat16");
  spec = Spec();
  spec.block_size = 0;
  EXPECT_EQ(error(spec).message(), "block_size is 0; it must be positive");
  spec = Spec();
  spec.world_size = 3;
  EXPECT_TRUE(absl::IsInvalidArgument(error(spec))) << error(spec);
  spec = Spec();
  spec.limits.sparse_pages = 3;
  EXPECT_EQ(error(spec).message(),
            "--sparse_attention=top_pages:3: a decode reads at least 4 pages");
  spec = Spec();
  spec.limits.sparse_pages = 4;
  spec.virtual_page_bytes = 4096;
  EXPECT_TRUE(absl::IsInvalidArgument(error(spec))) << error(spec);
  spec = Spec();
  spec.limits.sparse_pages = 4;
  DeviceOptions gpu;
  gpu.device = "cuda";
  EXPECT_EQ(LoadExecutor(gpu, spec, &board, &clock, Ignore).status().message(),
            "--sparse_attention=top_pages:4 works on --device=cpu only; this "
            "worker has --device=cuda: leave the flag out");
  spec = Spec();
  spec.rank = 1;
  EXPECT_EQ(error(spec).message(), "rank 1 of a group of 1");
}

TEST(LoadExecutorTest, DeviceOptionsThatDoNotExistAreNamed) {
  DeviceOptions device;
  EXPECT_TRUE(CheckDeviceOptions(device).ok());
  device.device = "tpu";
  EXPECT_NE(CheckDeviceOptions(device).message().find("--device=tpu"),
            std::string::npos);
  device = {};
  device.collective = "carrier-pigeon";
  EXPECT_NE(CheckDeviceOptions(device).message().find("--collective"),
            std::string::npos);
  device = {};
  device.device_wait = "yield";
  EXPECT_NE(CheckDeviceOptions(device).message().find("--device_wait=yield"),
            std::string::npos);
  device = {};
  device.num_threads = -1;
  EXPECT_TRUE(absl::IsInvalidArgument(CheckDeviceOptions(device)));
}

TEST(DeviceOptionsTest, AGpuIsNamedByItsNumberOrNotAtAll) {
  const auto kind = [](const char* device) {
    DeviceOptions options;
    options.device = device;
    return DeviceKind(options);
  };
  EXPECT_EQ(kind("cpu"), "cpu");
  EXPECT_EQ(kind("cuda"), "cuda");
  EXPECT_EQ(kind("cuda:3"), "cuda");
  for (const char* device : {"cuda:", "cuda:x", "cuda:-1", "gpu", ""}) {
    DeviceOptions options;
    options.device = device;
    EXPECT_TRUE(absl::IsInvalidArgument(CheckDeviceOptions(options))) << device;
  }
}

}  // namespace
}  // namespace quire
