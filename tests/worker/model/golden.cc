// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/model/golden.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/json_fields.h"
#include "common/model_config.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "nlohmann/json.hpp"
#include "worker/collective/local.h"
#include "worker/model/registry.h"
#include "worker/weights/open_weights.h"

namespace quire {
namespace {

constexpr int32_t kMaxModelLen = 160;  // tokens
constexpr int32_t kMaxBatchedTokens = 512;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

using AllLogits = std::vector<std::vector<std::vector<float>>>;

// One rank and its cache. A sequence per prompt, all in the same batch.
class GoldenRank {
 public:
  GoldenRank(const Golden& golden, const GoldenRun& run, Collective& collective,
             AllLogits* logits)
      : golden_(golden), run_(run), collective_(collective), logits_(logits) {}

  absl::Status Load(const std::string& folder) {
    QUIRE_ASSIGN_OR_RETURN(const ModelConfig config,
                           ModelConfig::FromFolder(folder));
    QUIRE_ASSIGN_OR_RETURN(
        backend_,
        run_.on_cuda
            ? CreateCudaBackend({.dtype = run_.dtype, .is_deterministic = true})
            : CpuBackend::Create({.dtype = run_.dtype, .num_threads = 1}));
    QUIRE_ASSIGN_OR_RETURN(auto source, OpenWeights({.folder = folder}));
    const int32_t num_seqs = static_cast<int32_t>(golden_.prompts.size());
    QUIRE_ASSIGN_OR_RETURN(
        model_, CreateModel(config,
                            {.max_num_batched_tokens = kMaxBatchedTokens,
                             .max_num_seqs = num_seqs,
                             .max_model_len = kMaxModelLen},
                            *source, *backend_, collective_));
    blocks_per_seq_ = (kMaxModelLen + run_.block_size - 1) / run_.block_size;
    cache_.layout = model_->kv_layout(run_.block_size);
    cache_.num_blocks = blocks_per_seq_ * num_seqs;
    QUIRE_ASSIGN_OR_RETURN(
        cache_buffer_,
        backend_->Allocate(cache_.num_blocks * cache_.layout.BlockBytes()));
    cache_.base = cache_buffer_->data();
    // Every table is a scattered set of blocks: multiplying by a number coprime
    // to the count permutes them.
    int32_t factor = 7;
    while (cache_.num_blocks % factor == 0) factor += 2;
    for (int32_t i = 0; i < cache_.num_blocks; ++i) {
      block_tables_.push_back(
          static_cast<int32_t>(int64_t{i} * factor % cache_.num_blocks));
    }
    num_computed_.assign(num_seqs, 0);
    return absl::OkStatus();
  }

  // Whether every sequence has reached its last golden token.
  bool done() const {
    for (size_t i = 0; i < golden_.prompts.size(); ++i) {
      if (num_computed_[i] < NumTokens(i)) return false;
    }
    return true;
  }

  // A chunk of each prompt, or the next decode of it.
  absl::Status Step() {
    Build();
    BatchInput batch;
    batch.num_tokens = static_cast<int32_t>(token_ids_.size());
    batch.num_seqs = static_cast<int32_t>(seq_slots_.size());
    batch.num_samples = static_cast<int32_t>(sample_rows_.size());
    for (const auto& [list, array] :
         {std::pair(&token_ids_, &batch.token_ids),
          std::pair(&positions_, &batch.positions),
          std::pair(&slot_mapping_, &batch.slot_mapping),
          std::pair(&query_start_, &batch.query_start),
          std::pair(&context_lens_, &batch.context_lens),
          std::pair(&seq_slots_, &batch.seq_slots),
          std::pair(&sample_rows_, &batch.sample_rows),
          std::pair(&block_tables_, &batch.block_tables)}) {
      QUIRE_ASSIGN_OR_RETURN(*array, Upload(*list));
    }
    batch.max_blocks_per_seq = blocks_per_seq_;
    QUIRE_ASSIGN_OR_RETURN(const float* logits, model_->Forward(batch, cache_));
    // Each rank writes its own columns; the columns are disjoint.
    const VocabShard shard = model_->vocab_shard();
    std::vector<float> rows(sampled_.size() * shard.num_ids);
    QUIRE_RETURN_IF_ERROR(backend_->CopyToHost(
        logits, rows.data(),
        static_cast<int64_t>(rows.size() * sizeof(float))));
    QUIRE_RETURN_IF_ERROR(backend_->Synchronize());
    uploaded_.clear();
    for (size_t r = 0; r < sampled_.size(); ++r) {
      const auto [seq_idx, step] = sampled_[r];
      std::copy_n(rows.begin() + static_cast<int64_t>(r) * shard.num_ids,
                  shard.num_ids,
                  (*logits_)[seq_idx][step].begin() + shard.first_id);
    }
    return absl::OkStatus();
  }

 private:
  // Device memory that lives until the step is done.
  absl::StatusOr<const int32_t*> Upload(const std::vector<int32_t>& list) {
    const int64_t bytes = static_cast<int64_t>(list.size() * sizeof(int32_t));
    QUIRE_ASSIGN_OR_RETURN(auto buffer, backend_->Allocate(bytes));
    QUIRE_RETURN_IF_ERROR(
        backend_->CopyToDevice(list.data(), buffer->data(), bytes));
    uploaded_.push_back(std::move(buffer));
    return uploaded_.back()->as<const int32_t>();
  }

  // All but the last golden token are fed.
  int32_t NumTokens(size_t seq_idx) const {
    const GoldenPrompt& prompt = golden_.prompts[seq_idx];
    return static_cast<int32_t>(prompt.prompt.size() + prompt.tokens.size() -
                                1);
  }

  void Build() {
    for (auto* list : {&token_ids_, &positions_, &slot_mapping_, &context_lens_,
                       &seq_slots_, &sample_rows_}) {
      list->clear();
    }
    sampled_.clear();
    query_start_ = {0};
    for (size_t i = 0; i < golden_.prompts.size(); ++i) {
      if (num_computed_[i] < NumTokens(i)) AddSequence(i);
    }
  }

  void AddSequence(size_t seq_idx) {
    const GoldenPrompt& prompt = golden_.prompts[seq_idx];
    const int32_t prompt_len = static_cast<int32_t>(prompt.prompt.size());
    const int32_t begin = num_computed_[seq_idx];
    const int32_t end =
        std::max(begin + 1, std::min(prompt_len, begin + run_.chunk_size));
    for (int32_t position = begin; position < end; ++position) {
      token_ids_.push_back(position < prompt_len
                               ? prompt.prompt[position]
                               : prompt.tokens[position - prompt_len]);
      positions_.push_back(position);
      const int32_t block =
          block_tables_[seq_idx * blocks_per_seq_ + position / run_.block_size];
      slot_mapping_.push_back(block * run_.block_size +
                              position % run_.block_size);
    }
    query_start_.push_back(static_cast<int32_t>(token_ids_.size()));
    context_lens_.push_back(end);
    seq_slots_.push_back(static_cast<int32_t>(seq_idx));
    num_computed_[seq_idx] = end;
    if (end < prompt_len) return;
    sample_rows_.push_back(query_start_.back() - 1);
    sampled_.emplace_back(seq_idx, end - prompt_len);
  }

  const Golden& golden_;
  const GoldenRun& run_;
  Collective& collective_;
  AllLogits* logits_;  // shared by the ranks
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<DeviceBuffer> cache_buffer_;
  std::vector<std::unique_ptr<DeviceBuffer>> uploaded_;
  KvCache cache_;
  int32_t blocks_per_seq_ = 0;
  std::vector<int32_t> num_computed_;  // [num_seqs]
  std::vector<int32_t> block_tables_;  // [num_seqs, blocks_per_seq]
  std::vector<int32_t> token_ids_, positions_, slot_mapping_, query_start_,
      context_lens_, seq_slots_, sample_rows_;
  std::vector<std::pair<size_t, int32_t>> sampled_;  // (sequence, step)
};

absl::Status RunRank(const std::string& folder, GoldenRank* rank) {
  QUIRE_RETURN_IF_ERROR(rank->Load(folder));
  while (!rank->done()) QUIRE_RETURN_IF_ERROR(rank->Step());
  return absl::OkStatus();
}

}  // namespace

std::string GoldenFolder(const std::string& name) {
  // Bazel shows a test links to its data, and the loader takes no links.
  const char* root = std::getenv("TEST_SRCDIR");
  const std::string config =
      absl::StrCat(root == nullptr ? "" : root, "/quire/tests/golden/", name,
                   "/config.json");
  std::error_code error;
  const auto path = std::filesystem::canonical(config, error);
  return error ? config : path.parent_path().string();
}

absl::StatusOr<Golden> ReadGolden(const std::string& name) {
  const std::string folder = GoldenFolder(name);
  QUIRE_ASSIGN_OR_RETURN(
      const nlohmann::json json,
      ParseJsonObject(ReadAll(folder + "/golden.json"), name));
  Golden golden;
  golden.vocab_size = json.at("vocab_size").get<int32_t>();
  golden.logits_every = json.at("logits_every").get<int32_t>();
  golden.bf16_error = json.value("bf16_error", 0.0f);
  std::ifstream file(folder + "/logits.f32", std::ios::binary);
  for (const nlohmann::json& item : json.at("prompts")) {
    GoldenPrompt prompt;
    prompt.prompt = item.at("prompt").get<std::vector<int32_t>>();
    prompt.tokens = item.at("tokens").get<std::vector<int32_t>>();
    for (size_t i = 0; i < prompt.tokens.size(); i += golden.logits_every) {
      std::vector<float> row(golden.vocab_size);
      file.read(reinterpret_cast<char*>(row.data()),
                static_cast<std::streamsize>(row.size() * sizeof(float)));
      prompt.logits.push_back(std::move(row));
    }
    golden.prompts.push_back(std::move(prompt));
  }
  if (!file || file.peek() != EOF) {
    return absl::DataLossError(
        absl::StrCat(folder, "/logits.f32 does not match golden.json"));
  }
  return golden;
}

absl::StatusOr<AllLogits> RunGolden(const std::string& name,
                                    const Golden& golden,
                                    const GoldenRun& run) {
  AllLogits logits;
  for (const GoldenPrompt& prompt : golden.prompts) {
    // NaN, so that a column that no rank wrote fails every comparison.
    logits.emplace_back(prompt.tokens.size(),
                        std::vector<float>(golden.vocab_size, NAN));
  }
  const std::string folder = GoldenFolder(name);
  LocalGroup group(run.world_size);
  std::vector<absl::Status> statuses(run.world_size);
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < run.world_size; ++rank) {
    threads.emplace_back([&, rank] {
      GoldenRank golden_rank(golden, run, *group.collective(rank), &logits);
      statuses[rank] = RunRank(folder, &golden_rank);
      if (!statuses[rank].ok()) group.Break();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) QUIRE_RETURN_IF_ERROR(status);
  return logits;
}

int32_t ArgMax(const std::vector<float>& row) {
  return static_cast<int32_t>(std::max_element(row.begin(), row.end()) -
                              row.begin());
}

float MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK_EQ(a.size(), b.size());
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // NaN too
  }
  return largest;
}

float Gap(const std::vector<float>& row) {
  std::vector<float> sorted = row;
  std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(),
                    std::greater<float>());
  return sorted[0] - sorted[1];
}

}  // namespace quire
