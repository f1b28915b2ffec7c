// SPDX-License-Identifier: Apache-2.0
//
// Greedy decoding by a whole group of executors: a thread each, or with a GPU
// each a process. The model is a small one with random weights, by default eight
// query heads and two KV heads, so that ranks share a KV head from four on, and
// a vocabulary that no number of ranks divides; or one in a folder.
#ifndef TESTS_WORKER_EXECUTOR_GROUP_RUN_H_
#define TESTS_WORKER_EXECUTOR_GROUP_RUN_H_

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/worker/collective/memory_board.h"
#include "tests/worker/collective/rank_processes.h"
#include "tests/worker/collective/shared_board.h"
#include "worker/executor/load_executor.h"

namespace quire {

struct GroupRunOptions {
  DeviceOptions device;
  std::string folder;  // of a model with 256 tokens or more; empty: random
  std::string dtype = "float32";
  int32_t head_dim = 8;
  int32_t num_q_heads = 8;
  int32_t num_kv_heads = 2;
  int32_t num_layers = 2;
  int32_t world_size = 1;
  int32_t num_prompts = 6;
  int32_t num_steps = 12;
  // Each prompt alone in its batch, one after the other.
  bool is_alone = false;
  // Tokens of a prompt that one step computes at most; 0: all.
  int32_t chunk = 0;
  // With filters, penalties, biases, words and log probabilities, by prompt;
  // else greedily.
  bool is_shaped = false;
  // Of each token what the best logit is ahead by.
  bool wants_gaps = false;
};

struct GroupRun {
  std::vector<std::vector<TokenId>> tokens;  // [prompt][step], rank 0's
  std::vector<std::vector<float>> gaps;      // the same, if wanted
  int64_t num_run_ahead = 0;  // steps begun before the last ended
};

// As text and back, from the process of rank 0.
inline std::string TextOf(const GroupRun& run) {
  std::ostringstream text;
  text.precision(std::numeric_limits<float>::max_digits10);
  text << run.num_run_ahead;
  for (size_t prompt = 0; prompt < run.tokens.size(); ++prompt) {
    text << ' ' << run.tokens[prompt].size() << ' ' << run.gaps[prompt].size();
    for (const TokenId token : run.tokens[prompt]) text << ' ' << token;
    for (const float gap : run.gaps[prompt]) text << ' ' << gap;
  }
  return text.str();
}

inline void ReadText(std::istream& words, GroupRun* run) {
  words >> run->num_run_ahead;
  for (size_t prompt = 0; prompt < run->tokens.size(); ++prompt) {
    size_t num_tokens = 0, num_gaps = 0;
    words >> num_tokens >> num_gaps;
    run->tokens[prompt].resize(num_tokens);
    run->gaps[prompt].resize(num_gaps);
    for (TokenId& token : run->tokens[prompt]) words >> token;
    for (float& gap : run->gaps[prompt]) words >> gap;
  }
  ASSERT_FALSE(words.fail());
}

inline std::string RandomLlama(const GroupRunOptions& options) {
  const std::string folder = absl::StrCat(testing::TempDir(), "/", getpid());
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/config.json") << absl::StrCat(
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "torch_dtype": "float32", "vocab_size": 1003,
      "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
      "rope_theta": 10000.0, "tie_word_embeddings": false,
      "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
      "num_hidden_layers": )",
      options.num_layers, ", \"num_attention_heads\": ", options.num_q_heads,
      ", \"num_key_value_heads\": ", options.num_kv_heads,
      ", \"head_dim\": ", options.head_dim,
      ", \"hidden_size\": ", options.num_q_heads * options.head_dim,
      ", \"intermediate_size\": ", 32 * options.head_dim, "}");
  return folder;
}

// Of every kind, and some plain.
inline SlotSampling ShapedSampling(int32_t prompt) {
  SlotSampling sampling;
  sampling.seed = 1000 + prompt;
  sampling.temperature = prompt % 4 == 3 ? 0 : 0.9f;
  if (prompt % 3 == 0) sampling.top_p = 0.8f;
  if (prompt % 5 == 1) sampling.top_k = 20;
  if (prompt % 7 == 2) sampling.min_p = 0.05f;
  if (prompt % 4 == 1) sampling.repetition_penalty = 1.2f;
  if (prompt % 4 == 3) sampling.frequency_penalty = 0.5f;
  if (prompt % 6 == 4) sampling.logit_bias = {{2, 3.0f}, {700, 4.0f}};
  if (prompt % 6 == 5) sampling.bad_words = {{700}, {4}};
  if (prompt % 8 == 6) {
    for (TokenId id = prompt; id < 1003; id += 3) {
      sampling.allowed_token_ids.push_back(id);
    }
  }
  if (prompt % 2 == 0) sampling.num_logprobs = prompt % 5;
  // Nothing but filters, of which top_k leaves few.
  if (prompt % 6 == 2) {
    sampling.num_logprobs = -1;
    sampling.top_k = prompt == 2 ? 900 : 20;
    if (prompt == 2) sampling.top_p = 0.9f;
  }
  return sampling;
}

// One rank's part. `run` is filled in by rank 0.
inline void RunGroupRank(const GroupRunOptions& options,
                         const std::string& folder, int32_t rank,
                         KeyBoard* board, GroupRun* run) {
  constexpr int32_t kBlockSize = 16, kBlocksPerSeq = 8;
  const TokenId num_ids = options.folder.empty() ? 1000 : 256;
  LoadSpec spec;
  spec.model_path = folder;
  spec.load_format = options.folder.empty() ? "dummy" : "safetensors";
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
  const absl::Status allocated = own.AllocateKv(16 * kBlocksPerSeq, 0);
  ASSERT_TRUE(allocated.ok()) << folder << ": " << allocated;
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
    std::vector<int32_t> prompts, lengths;
    for (int32_t i = 0; i < each; ++i) {
      const int32_t prompt = first + i;
      AdmittedSlot admitted;
      admitted.slot = SlotId(i);
      for (int32_t j = 0; j < 5 + 7 * prompt; ++j) {
        admitted.tokens.push_back((prompt * 131 + j * 37) % num_ids);
      }
      admitted.num_prompt_tokens = static_cast<int32_t>(admitted.tokens.size());
      admitted.sampling.temperature = 0;
      if (options.is_shaped) admitted.sampling = ShapedSampling(prompt);
      if (options.wants_gaps) admitted.sampling.num_logprobs = 2;
      std::vector<BlockId> blocks;
      for (int32_t b = 0; b < kBlocksPerSeq; ++b) {
        blocks.push_back(BlockId(b * each + i));
      }
      admitted.cache = std::move(blocks);
      lengths.push_back(admitted.num_prompt_tokens);
      plan.admitted.push_back(std::move(admitted));
      prompts.push_back(prompt);
    }
    // Prompts that are whole decode beside the chunks of others, until each has
    // said as much as it is to.
    std::vector<int32_t> num_said(each, 0), num_done(each, 0);
    while (true) {
      std::vector<int32_t> saying;
      for (int32_t i = 0; i < each; ++i) {
        if (num_said[i] == options.num_steps) continue;
        const int32_t left = lengths[i] - num_done[i];
        if (left == 0) {
          plan.decodes.push_back(SlotId(i));
          saying.push_back(prompts[i]);
          ++num_said[i];
        }
      }
      for (int32_t i = 0; i < each; ++i) {
        const int32_t left = lengths[i] - num_done[i];
        if (left == 0) continue;
        const int32_t size =
            options.chunk == 0 ? left : std::min(left, options.chunk);
        plan.chunks.push_back({SlotId(i), size, /*sample=*/size == left});
        num_done[i] += size;
        if (size < left) continue;
        saying.push_back(prompts[i]);
        ++num_said[i];
      }
      if (plan.decodes.empty() && plan.chunks.empty()) break;
      begin(plan, saying);
      plan = StepPlan();
    }
    while (own.num_begun() > 0) finish();
    for (int32_t i = 0; i < each; ++i) plan.released.push_back(SlotId(i));
    begin(plan, {});
    finish();
  }
}

inline GroupRun EmptyRun(const GroupRunOptions& options) {
  GroupRun run;
  run.tokens.resize(options.num_prompts);
  run.gaps.resize(options.num_prompts);
  return run;
}

inline std::string FolderOf(const GroupRunOptions& options) {
  return options.folder.empty() ? RandomLlama(options) : options.folder;
}

inline GroupRun RunGroup(const GroupRunOptions& options) {
  const std::string folder = FolderOf(options);
  MemoryBoard board;
  GroupRun run = EmptyRun(options);
  std::vector<std::thread> ranks;
  for (int32_t rank = 0; rank < options.world_size; ++rank) {
    ranks.emplace_back(
        [&, rank] { RunGroupRank(options, folder, rank, &board, &run); });
  }
  for (std::thread& rank : ranks) rank.join();
  return run;
}

// Groups one after the other, whose ranks are processes: rank r of all groups
// is one. REQUIRES: as of RunRankProcesses.
inline std::vector<GroupRun> RunGroupsInProcesses(
    const std::vector<GroupRunOptions>& groups) {
  int32_t world = 1;
  std::vector<std::unique_ptr<SharedBoard>> boards;
  std::vector<GroupRun> runs;
  for (const GroupRunOptions& options : groups) {
    world = std::max(world, options.world_size);
    boards.push_back(std::make_unique<SharedBoard>());
    runs.push_back(EmptyRun(options));
  }
  const auto said = RunRankProcesses(
      world, [&](int32_t rank, KeyBoard*) -> absl::StatusOr<std::string> {
        std::string texts;
        for (size_t i = 0; i < groups.size(); ++i) {
          const GroupRunOptions& options = groups[i];
          if (rank >= options.world_size) continue;
          // Of each rank its own, as they write it.
          const std::string folder = FolderOf(options);
          RunGroupRank(options, folder, rank, boards[i].get(), &runs[i]);
          if (testing::Test::HasFailure()) {
            return absl::InternalError(absl::StrCat("group ", i));
          }
          if (rank == 0) absl::StrAppend(&texts, TextOf(runs[i]), " ");
        }
        return texts;
      });
  EXPECT_TRUE(said.ok()) << said.status();
  if (!said.ok()) return runs;
  std::istringstream words(said->front());
  for (GroupRun& run : runs) ReadText(words, &run);
  return runs;
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
