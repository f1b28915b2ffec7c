// SPDX-License-Identifier: Apache-2.0
//
// Executors of the demo model on a device, and what transformers makes of it.
#ifndef TESTS_WORKER_EXECUTOR_DEMO_EXECUTOR_H_
#define TESTS_WORKER_EXECUTOR_DEMO_EXECUTOR_H_

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/worker/collective/memory_board.h"
#include "worker/executor/load_executor.h"

namespace quire {

struct Sample {
  std::vector<TokenId> prompt;
  std::vector<TokenId> output;
};

// A file of the test's data, links resolved.
inline std::string DataFile(const std::string& path) {
  const char* root = std::getenv("TEST_SRCDIR");
  return std::filesystem::canonical(
             absl::StrCat(root == nullptr ? "" : root, "/quire/", path))
      .string();
}

inline std::vector<Sample> GoldenSamples() {
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

inline constexpr int32_t kBlockSize = 16;
inline constexpr int32_t kMaxModelLen = 256;
inline constexpr int32_t kBlocksPerSeq = kMaxModelLen / kBlockSize;

inline constexpr int64_t kPageBytes = 2 << 20;

// `is_virtual`: rows of virtual memory, in place of blocks, and page groups in
// place of `num_blocks`.
inline std::unique_ptr<Executor> Load(const DeviceOptions& device,
                                      const RealClock* clock,
                                      MemoryBoard* board,
                                      bool is_virtual = false,
                                      const std::string& dtype = "auto",
                                      int32_t num_blocks = 32 * kBlocksPerSeq) {
  LoadSpec spec;
  spec.dtype = dtype;
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
  EXPECT_TRUE((*executor)->AllocateKv(num_blocks, 0).ok());
  return *std::move(executor);
}

}  // namespace quire

#endif  // TESTS_WORKER_EXECUTOR_DEMO_EXECUTOR_H_
