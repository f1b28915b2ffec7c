// SPDX-License-Identifier: Apache-2.0
#include "tools/sparse_attention/decode_trial.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/types/span.h"
#include "common/sparse_attention.h"
#include "common/status_macros.h"
#include "common/step_plan.h"
#include "glog/logging.h"
#include "kernels/cpu/cpu_backend.h"
#include "worker/batch/input_builder.h"
#include "worker/batch/slot_state.h"
#include "worker/model/registry.h"
#include "worker/weights/open_weights.h"

namespace quire {
namespace {

constexpr int32_t kChunkTokens = 256;

double Median(std::vector<double> values) {
  const auto middle = values.begin() + values.size() / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

TokenId Likeliest(absl::Span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) -
                              logits.begin());
}

TokenId SampleOne(absl::Span<const float> logits, std::mt19937* random) {
  const float max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights;
  for (float logit : logits) weights.push_back(std::exp(double{logit} - max));
  return static_cast<TokenId>(
      std::discrete_distribution<int>(weights.begin(), weights.end())(*random));
}

std::vector<BlockId> Blocks(int32_t first, int32_t num) {
  std::vector<BlockId> blocks;
  for (int32_t i = 0; i < num; ++i) blocks.push_back(BlockId(first + i));
  return blocks;
}

}  // namespace

// A mirror of all sequences that decodes in one way.
class DecodeTrial::Lane {
 public:
  Lane(const SlotLimits& limits, std::unique_ptr<InputBuilder> builder,
       Model* model)
      : num_columns_(model->vocab_shard().num_ids),
        slots_(limits),
        builder_(std::move(builder)),
        model_(model) {}

  absl::Status Admit(int32_t slot, const std::vector<TokenId>& tokens,
                     int32_t num_prompt, int32_t num_computed,
                     std::vector<BlockId> blocks) {
    StepPlan plan;
    AdmittedSlot& admitted = plan.admitted.emplace_back();
    admitted.slot = SlotId(slot);
    admitted.tokens = tokens;
    admitted.num_prompt_tokens = num_prompt;
    admitted.num_computed_tokens = num_computed;
    admitted.cache = std::move(blocks);
    return slots_.Apply(plan);
  }

  // Runs the plan's slices; Commit() ends the step.
  absl::Status Run(const StepPlan& plan, const KvCache& cache) {
    const auto start = std::chrono::steady_clock::now();
    QUIRE_ASSIGN_OR_RETURN(const BatchInput batch,
                           builder_->Build(plan, &slots_));
    QUIRE_ASSIGN_OR_RETURN(const float* logits, model_->Forward(batch, cache));
    seconds_.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
            .count());
    logits_.assign(logits, logits + int64_t{batch.num_samples} * num_columns_);
    return absl::OkStatus();
  }
  void Commit(const StepPlan& plan, absl::Span<const TokenId> tokens) {
    slots_.Commit(plan, tokens);
  }

  // Of the last step's row.
  absl::Span<const float> logits(int32_t row) const {
    return {&logits_[int64_t{row} * num_columns_],
            static_cast<size_t>(num_columns_)};
  }
  // Of a step.
  double median_seconds() const { return Median(seconds_); }

 private:
  const int32_t num_columns_;
  SlotStates slots_;
  const std::unique_ptr<InputBuilder> builder_;
  Model* const model_;
  std::vector<float> logits_;
  std::vector<double> seconds_;
};

absl::StatusOr<std::unique_ptr<DecodeTrial>> DecodeTrial::Create(
    const TrialOptions& options) {
  auto trial = absl::WrapUnique(new DecodeTrial(options));
  QUIRE_RETURN_IF_ERROR(trial->Load());
  return trial;
}

absl::Status DecodeTrial::Load() {
  QUIRE_ASSIGN_OR_RETURN(config_, ModelConfig::FromFolder(options_.model));
  QUIRE_ASSIGN_OR_RETURN(const auto weights,
                         OpenWeights({options_.model, options_.load_format}));
  CpuBackendOptions backend;
  backend.dtype = options_.dtype;
  backend.num_threads = options_.num_threads;
  QUIRE_ASSIGN_OR_RETURN(backend_, CpuBackend::Create(backend));
  limits_.max_num_batched_tokens =
      std::max(kChunkTokens, options_.max_num_seqs);
  limits_.max_num_seqs = options_.max_num_seqs;
  limits_.max_model_len = options_.max_model_len;
  limits_.sparse_pages = kMinSparsePages;  // so that blocks have bounds
  QUIRE_ASSIGN_OR_RETURN(
      model_, CreateModel(config_, limits_, *weights, *backend_, collective_));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DecodeTrial::Lane>> DecodeTrial::MakeLane(
    int32_t num_blocks, int32_t num_pages) {
  SlotLimits limits;
  limits.max_num_seqs = options_.max_num_seqs;
  limits.max_model_len = options_.max_model_len;
  limits.block_size = options_.block_size;
  limits.num_blocks = num_blocks;
  limits.vocab_size = config_.vocab_size;
  limits.sparse_pages = num_pages;
  QUIRE_ASSIGN_OR_RETURN(auto builder,
                         InputBuilder::Create(backend_.get(), limits,
                                              limits_.max_num_batched_tokens));
  return std::make_unique<Lane>(limits, std::move(builder), model_.get());
}

absl::StatusOr<std::vector<std::vector<TokenId>>> DecodeTrial::Generate(
    int32_t num_seqs, int32_t num_tokens, uint32_t seed) {
  const int32_t blocks_each =
      (num_tokens + options_.block_size - 1) / options_.block_size;
  const int32_t num_blocks = num_seqs * blocks_each;
  QUIRE_ASSIGN_OR_RETURN(
      const auto cache,
      PagedKvCache::Create(backend_.get(),
                           model_->kv_layout(options_.block_size), num_blocks,
                           /*num_host_blocks=*/0));
  QUIRE_ASSIGN_OR_RETURN(const auto lane, MakeLane(num_blocks, 0));
  const TokenId begin = std::max(0, config_.bos_token_id);
  std::vector<std::vector<TokenId>> texts(num_seqs, {begin});
  StepPlan plan;
  for (int32_t seq = 0; seq < num_seqs; ++seq) {
    QUIRE_RETURN_IF_ERROR(lane->Admit(seq, texts[seq], 1, 0,
                                      Blocks(seq * blocks_each, blocks_each)));
    plan.decodes.push_back(SlotId(seq));
  }
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(num_seqs);
  for (int32_t step = 1; step < num_tokens; ++step) {
    QUIRE_RETURN_IF_ERROR(lane->Run(plan, cache->view()));
    for (int32_t seq = 0; seq < num_seqs; ++seq) {
      // One text after the other.
      const bool has_ended =
          std::find(config_.eos_token_ids.begin(), config_.eos_token_ids.end(),
                    texts[seq].back()) != config_.eos_token_ids.end();
      tokens[seq] = has_ended ? begin : SampleOne(lane->logits(seq), &random);
      texts[seq].push_back(tokens[seq]);
    }
    lane->Commit(plan, tokens);
  }
  return texts;
}

absl::StatusOr<std::vector<TokenId>> DecodeTrial::Prefill(
    const std::vector<std::vector<TokenId>>& prompts, const PagedKvCache& cache,
    int32_t num_blocks) {
  const auto length = static_cast<int32_t>(prompts[0].size());
  const int32_t blocks_each =
      (length + options_.block_size - 1) / options_.block_size;
  // Prompts are dense, but leave bounds of their keys.
  QUIRE_ASSIGN_OR_RETURN(const auto lane,
                         MakeLane(num_blocks, kMinSparsePages));
  std::vector<TokenId> next;
  for (size_t seq = 0; seq < prompts.size(); ++seq) {
    const auto slot = static_cast<int32_t>(seq);
    QUIRE_RETURN_IF_ERROR(lane->Admit(slot, prompts[seq], length, 0,
                                      Blocks(slot * blocks_each, blocks_each)));
    for (int32_t done = 0; done < length; done += kChunkTokens) {
      const int32_t num_tokens = std::min(kChunkTokens, length - done);
      const bool is_last = done + num_tokens == length;
      StepPlan plan;
      plan.chunks = {{SlotId(slot), num_tokens, is_last}};
      QUIRE_RETURN_IF_ERROR(lane->Run(plan, cache.view()));
      std::vector<TokenId> tokens;
      if (is_last) tokens.push_back(Likeliest(lane->logits(0)));
      lane->Commit(plan, tokens);
      next.insert(next.end(), tokens.begin(), tokens.end());
    }
  }
  return next;
}

void DecodeTrial::AddReads(int32_t num_tokens, PagesTrial* trial) const {
  const int32_t num_pages =
      (num_tokens + options_.block_size - 1) / options_.block_size;
  const bool is_sparse = num_pages > trial->num_pages;
  const double share =
      is_sparse ? double{1} * trial->num_pages / num_pages : 1.0;
  trial->pages_read += share;
  // A page's bounds are as large as one of its tokens.
  const double bounds = is_sparse ? 1.0 / options_.block_size : 0.0;
  const int32_t num_dense = std::min(kFirstSparseLayer, config_.num_layers);
  trial->bytes_read +=
      (num_dense + (config_.num_layers - num_dense) * (share + bounds)) /
      config_.num_layers;
}

DecodeTrial::Room DecodeTrial::RoomFor(int32_t num_seqs, int32_t num_tokens,
                                       int32_t num_steps,
                                       int32_t num_lanes) const {
  const int32_t block_size = options_.block_size;
  Room room;
  room.num_prompt = (num_tokens + block_size - 1) / block_size;
  room.num_shared = num_tokens / block_size;
  room.num_own =
      (num_tokens + num_steps + block_size - 1) / block_size - room.num_shared;
  room.num_blocks = num_seqs * (room.num_prompt + num_lanes * room.num_own);
  return room;
}

absl::StatusOr<std::vector<std::unique_ptr<DecodeTrial::Lane>>>
DecodeTrial::MakeLanes(const std::vector<std::vector<TokenId>>& prompts,
                       const std::vector<TokenId>& next,
                       const std::vector<int32_t>& pages, const Room& room,
                       PagedKvCache* cache) {
  StepPlan copies;
  std::vector<std::unique_ptr<Lane>> lanes;
  const auto num_seqs = static_cast<int32_t>(prompts.size());
  int32_t next_block = num_seqs * room.num_prompt;
  for (size_t idx = 0; idx <= pages.size(); ++idx) {
    QUIRE_ASSIGN_OR_RETURN(
        auto lane, MakeLane(room.num_blocks, idx == 0 ? 0 : pages[idx - 1]));
    for (int32_t seq = 0; seq < num_seqs; ++seq) {
      const int32_t first = seq * room.num_prompt;
      std::vector<BlockId> blocks = Blocks(first, room.num_shared);
      const std::vector<BlockId> own = Blocks(next_block, room.num_own);
      next_block += room.num_own;
      blocks.insert(blocks.end(), own.begin(), own.end());
      if (room.num_prompt > room.num_shared) {
        copies.copies.push_back({BlockId(first + room.num_shared), own[0]});
      }
      std::vector<TokenId> known = prompts[seq];
      const auto length = static_cast<int32_t>(known.size());
      known.push_back(next[seq]);
      QUIRE_RETURN_IF_ERROR(
          lane->Admit(seq, known, length, length, std::move(blocks)));
    }
    lanes.push_back(std::move(lane));
  }
  QUIRE_RETURN_IF_ERROR(cache->MoveBlocks(copies));
  return lanes;
}

absl::StatusOr<TrialResult> DecodeTrial::Run(
    const std::vector<std::vector<TokenId>>& prompts, int32_t num_steps,
    const std::vector<int32_t>& pages) {
  const auto num_seqs = static_cast<int32_t>(prompts.size());
  const auto length = static_cast<int32_t>(prompts[0].size());
  CHECK_LE(num_seqs, options_.max_num_seqs);
  CHECK_LE(length + num_steps, options_.max_model_len);
  const Room room = RoomFor(num_seqs, length, num_steps,
                            static_cast<int32_t>(pages.size()) + 1);
  QUIRE_ASSIGN_OR_RETURN(
      const auto cache,
      PagedKvCache::Create(backend_.get(),
                           model_->kv_layout(options_.block_size),
                           room.num_blocks, /*num_host_blocks=*/0));
  QUIRE_ASSIGN_OR_RETURN(std::vector<TokenId> tokens,
                         Prefill(prompts, *cache, room.num_blocks));
  QUIRE_ASSIGN_OR_RETURN(const auto lanes,
                         MakeLanes(prompts, tokens, pages, room, cache.get()));
  TrialResult result;
  result.trials.resize(pages.size());
  for (size_t t = 0; t < pages.size(); ++t) {
    result.trials[t].num_pages = pages[t];
  }
  StepPlan step;
  for (int32_t seq = 0; seq < num_seqs; ++seq) {
    step.decodes.push_back(SlotId(seq));
  }
  for (int32_t i = 0; i < num_steps; ++i) {
    for (size_t turn = 0; turn < lanes.size(); ++turn) {
      const size_t idx = i % 2 == 0 ? turn : lanes.size() - 1 - turn;
      QUIRE_RETURN_IF_ERROR(lanes[idx]->Run(step, cache->view()));
    }
    for (int32_t seq = 0; seq < num_seqs; ++seq) {
      const absl::Span<const float> want = lanes[0]->logits(seq);
      tokens[seq] = Likeliest(want);
      for (size_t t = 0; t < pages.size(); ++t) {
        result.trials[t].difference.Add(want, lanes[t + 1]->logits(seq));
      }
    }
    for (PagesTrial& trial : result.trials) AddReads(length + i + 1, &trial);
    for (const auto& lane : lanes) lane->Commit(step, tokens);
  }
  result.dense_step_seconds = lanes[0]->median_seconds();
  for (size_t t = 0; t < pages.size(); ++t) {
    result.trials[t].step_seconds = lanes[t + 1]->median_seconds();
    result.trials[t].pages_read /= num_steps;
    result.trials[t].bytes_read /= num_steps;
  }
  return result;
}

}  // namespace quire
