// SPDX-License-Identifier: Apache-2.0
//
// A model that decodes the same sequences densely and with page-sparse
// attention (common/sparse_attention.h), side by side: what the pages that are
// not read do to its logits, and to the time of a step.
#ifndef TOOLS_SPARSE_ATTENTION_DECODE_TRIAL_H_
#define TOOLS_SPARSE_ATTENTION_DECODE_TRIAL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/model_config.h"
#include "kernels/backend.h"
#include "tools/sparse_attention/logit_difference.h"
#include "worker/collective/solo.h"
#include "worker/kv/kv_cache.h"
#include "worker/model/model.h"

namespace quire {

struct TrialOptions {
  std::string model;  // a Hugging Face folder
  std::string load_format = "auto";
  DType dtype = DType::kBf16;
  int num_threads = 0;  // 0: all that the process may run on
  int32_t block_size = 16;
  int32_t max_num_seqs = 1;
  int32_t max_model_len = 0;  // tokens of prompt and decode
};

// Of decodes that read `num_pages` pages.
struct PagesTrial {
  int32_t num_pages = 0;
  // Shares of a step's reads of the cache, as means over its steps: of pages,
  // in layers that are sparse; of bytes, in all layers, bounds of keys
  // included.
  double pages_read = 0;
  double bytes_read = 0;
  LogitDifference difference;  // a row for each sequence and step
  double step_seconds = 0;     // median
};

struct TrialResult {
  double dense_step_seconds = 0;  // median
  std::vector<PagesTrial> trials;
};

// One rank on the CPU. Thread-compatible.
class DecodeTrial {
 public:
  // Loads the model. Errors as of ModelConfig, OpenWeights and CreateModel.
  static absl::StatusOr<std::unique_ptr<DecodeTrial>> Create(
      const TrialOptions& options);

  const ModelConfig& config() const { return config_; }

  // Texts of the model's own, at temperature 1, of `num_tokens` each.
  absl::StatusOr<std::vector<std::vector<TokenId>>> Generate(int32_t num_seqs,
                                                             int32_t num_tokens,
                                                             uint32_t seed);

  // Computes the prompts, then `num_steps` decodes of the likeliest tokens,
  // each densely and for every number of pages, in turns whose order is
  // reversed from step to step. All continue with the dense tokens, on keys and
  // values of their own. REQUIRES: prompts of equal length, within the options;
  // `pages` >= kMinSparsePages.
  absl::StatusOr<TrialResult> Run(
      const std::vector<std::vector<TokenId>>& prompts, int32_t num_steps,
      const std::vector<int32_t>& pages);

 private:
  class Lane;

  // Blocks of each sequence: of its prompt; of those the full ones, which its
  // lanes share; and of each lane, which it writes itself.
  struct Room {
    int32_t num_prompt, num_shared, num_own;
    int32_t num_blocks;  // of all sequences and lanes
  };

  explicit DecodeTrial(const TrialOptions& options) : options_(options) {}

  absl::Status Load();
  absl::StatusOr<std::unique_ptr<Lane>> MakeLane(int32_t num_blocks,
                                                 int32_t num_pages);
  // Prompts into the first blocks of the cache; returns the tokens that follow.
  absl::StatusOr<std::vector<TokenId>> Prefill(
      const std::vector<std::vector<TokenId>>& prompts,
      const PagedKvCache& cache, int32_t num_blocks);
  Room RoomFor(int32_t num_seqs, int32_t num_tokens, int32_t num_steps,
               int32_t num_lanes) const;
  // A dense lane, then one for each of `pages`, which know the prompts and the
  // token that comes next.
  absl::StatusOr<std::vector<std::unique_ptr<Lane>>> MakeLanes(
      const std::vector<std::vector<TokenId>>& prompts,
      const std::vector<TokenId>& next, const std::vector<int32_t>& pages,
      const Room& room, PagedKvCache* cache);
  // What a decode reads whose context is `num_tokens` long.
  void AddReads(int32_t num_tokens, PagesTrial* trial) const;

  const TrialOptions options_;
  ModelConfig config_;
  StepLimits limits_;
  SoloCollective collective_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
};

}  // namespace quire

#endif  // TOOLS_SPARSE_ATTENTION_DECODE_TRIAL_H_
