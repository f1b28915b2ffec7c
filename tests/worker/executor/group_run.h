// SPDX-License-Identifier: Apache-2.0
//
// Greedy decoding by a whole group of executors, a thread each, on a small
// model with random weights: eight query heads or more, two KV heads, so that
// ranks share a KV head from four on, and a vocabulary that no number of ranks
// divides.
#ifndef TESTS_WORKER_EXECUTOR_GROUP_RUN_H_
#define TESTS_WORKER_EXECUTOR_GROUP_RUN_H_

#include <cstdint>
#include <deque>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/worker/collective/memory_board.h"
#include "worker/executor/load_executor.h"

namespace quire {

struct GroupRunOptions {
  DeviceOptions device;
  std::string dtype = "float32";
  int32_t head_dim = 8;
  int32_t num_layers = 2;
  int32_t world_size = 1;
  int32_t num_prompts = 6;
  int32_t num_steps = 12;
  // Each prompt alone in its batch, one after the other.
  bool is_alone = false;
  // Of tokens that the host chooses: what the best logit is ahead by.
  bool wants_gaps = false;
};

struct GroupRun {
  std::vector<std::vector<TokenId>> tokens;  // [prompt][step], rank 0's
  std::vector<std::vector<float>> gaps;      // the same, if wanted
  int64_t num_run_ahead = 0;  // steps begun before the last ended
};

inline std::string RandomLlama(const GroupRunOptions& options) {
  const std::string folder = testing::TempDir();
  std::ofstream(folder + "/config.json") << absl::StrCat(
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "torch_dtype": "float32", "num_attention_heads": 8,
      "num_key_value_heads": 2, "vocab_size": 1003,
      "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
      "rope_theta": 10000.0, "tie_word_embeddings": false,
      "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
      "num_hidden_layers": )",
      options.num_layers, ", \"head_dim\": ", options.head_dim,
      ", \"hidden_size\": ", 8 * options.head_dim,
      ", \"intermediate_size\": ", 32 * options.head_dim, "}");
  return folder;
}

// One rank's part. `run` is filled in by rank 0.
inline void RunGroupRank(const GroupRunOptions& options,
                         const std::string& folder, int32_t rank,
                         KeyBoard* board, GroupRun* run) {
  constexpr int32_t kBlockSize = 16, kBlocksPerSeq = 8;
  LoadSpec spec;
  spec.model_path = folder;
  spec.load_format = "dummy";
  spec.dtype = options.dtype;
  spec.seed = 3;
  spec.rank = rank;
  spec.world_size = options.world_size;
  spec.block_size = kBlockSize;
  spec.limits.max_num_batched_tokens = 1024;
  spec.limits.max_num_seqs = 16;
  spec.limits.max_model_len = kBlockSize * kBlocksPerSeq;
  const RealClock clock;
  auto executor = LoadExecutor(options.device, spec, board, &clock,
                               [](const char*, int64_t, int64_t) {});
  ASSERT_TRUE(executor.ok()) << executor.status();
  Executor& own = **executor;
  ASSERT_TRUE(own.AllocateKv(16 * kBlocksPerSeq, 0).ok());
  // Which prompt each token of the steps that are begun is of.
  std::deque<std::vector<int32_t>> begun;
  StepResult result;
  const auto finish = [&] {
    const absl::Status status = own.Finish(&result);
    ASSERT_TRUE(status.ok()) << status;
    if (rank == 0) {
      ASSERT_EQ(result.tokens.size(), begun.front().size());
      for (size_t i = 0; i < result.tokens.size(); ++i) {
        const int32_t prompt = begun.front()[i];
        run->tokens[prompt].push_back(result.tokens[i]);
        if (!options.wants_gaps) continue;
        const auto& top = result.logprobs[i].top;
        run->gaps[prompt].push_back(top[0].logprob - top[1].logprob);
      }
    }
    begun.pop_front();
  };
  const auto begin = [&](const StepPlan& plan, std::vector<int32_t> prompts) {
    while (own.num_begun() > 0 && !own.MayBegin(plan)) finish();
    if (rank == 0 && own.num_begun() > 0) ++run->num_run_ahead;
    const absl::Status status = own.Begin(plan);
    ASSERT_TRUE(status.ok()) << status;
    begun.push_back(std::move(prompts));
  };
  const int32_t each = options.is_alone ? 1 : options.num_prompts;
  for (int32_t first = 0; first < options.num_prompts; first += each) {
    StepPlan plan;
    std::vector<int32_t> prompts;
    for (int32_t i = 0; i < each; ++i) {
      const int32_t prompt = first + i;
      AdmittedSlot admitted;
      admitted.slot = SlotId(i);
      for (int32_t j = 0; j < 5 + 7 * prompt; ++j) {
        admitted.tokens.push_back((prompt * 131 + j * 37) % 1000);
      }
      admitted.num_prompt_tokens = static_cast<int32_t>(admitted.tokens.size());
      admitted.sampling.temperature = 0;
      if (options.wants_gaps) admitted.sampling.num_logprobs = 2;
      std::vector<BlockId> blocks;
      for (int32_t b = 0; b < kBlocksPerSeq; ++b) {
        blocks.push_back(BlockId(b * each + i));
      }
      admitted.cache = std::move(blocks);
      plan.chunks.push_back({SlotId(i), admitted.num_prompt_tokens, true});
      plan.admitted.push_back(std::move(admitted));
      prompts.push_back(prompt);
    }
    begin(plan, prompts);
    for (int32_t step = 1; step < options.num_steps; ++step) {
      StepPlan decodes;
      for (int32_t i = 0; i < each; ++i) decodes.decodes.push_back(SlotId(i));
      begin(decodes, prompts);
    }
    while (own.num_begun() > 0) finish();
    StepPlan last;
    for (int32_t i = 0; i < each; ++i) last.released.push_back(SlotId(i));
    begin(last, {});
    finish();
  }
}

inline GroupRun RunGroup(const GroupRunOptions& options) {
  const std::string folder = RandomLlama(options);
  MemoryBoard board;
  GroupRun run;
  run.tokens.resize(options.num_prompts);
  run.gaps.resize(options.num_prompts);
  std::vector<std::thread> ranks;
  for (int32_t rank = 0; rank < options.world_size; ++rank) {
    ranks.emplace_back(
        [&, rank] { RunGroupRank(options, folder, rank, &board, &run); });
  }
  for (std::thread& rank : ranks) rank.join();
  return run;
}

// Expects the reference's tokens, up to where the reference's own best two are
// closer than `tolerance`: from such a step on a sequence may be another.
// Returns how many steps were compared.
inline int ExpectSameTokens(const GroupRun& reference, const GroupRun& run,
                            float tolerance) {
  int num_compared = 0;
  for (size_t prompt = 0; prompt < reference.tokens.size(); ++prompt) {
    const auto& expected = reference.tokens[prompt];
    const auto& tokens = run.tokens[prompt];
    EXPECT_EQ(tokens.size(), expected.size());
    for (size_t step = 0; step < tokens.size(); ++step) {
      ++num_compared;
      if (tokens[step] == expected[step]) continue;
      EXPECT_LT(reference.gaps[prompt][step], tolerance)
          << "prompt " << prompt << ", step " << step << ": " << tokens[step]
          << ", not " << expected[step];
      break;
    }
  }
  return num_compared;
}

}  // namespace quire

#endif  // TESTS_WORKER_EXECUTOR_GROUP_RUN_H_
