// SPDX-License-Identifier: Apache-2.0
//
// A model family, written once against Backend and Collective. It knows
// tensors, not requests.
#ifndef WORKER_MODEL_MODEL_H_
#define WORKER_MODEL_MODEL_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model_config.h"
#include "kernels/backend.h"
#include "kernels/kv_layout.h"
#include "worker/collective/collective.h"

namespace quire {

// One step's input, in device memory; made by batch/input_builder. Sequences at
// the end may be padding: no token is theirs by query_start, and the tokens and
// rows beyond the last real one yield nothing.
struct BatchInput {
  int32_t num_tokens = 0;   // T
  int32_t num_seqs = 0;     // S
  int32_t num_samples = 0;  // R
  // [T]; a negative one is not known to the host: sampled[~id].
  const int32_t* token_ids = nullptr;
  const int32_t* sampled = nullptr;       // [max_num_seqs] by slot
  const int32_t* positions = nullptr;     // [T]
  const int32_t* slot_mapping = nullptr;  // [T], -1: padding
  const int32_t* query_start = nullptr;   // [S + 1]
  const int32_t* context_lens = nullptr;  // [S]
  const int32_t* seq_slots = nullptr;     // [S] rows of block_tables
  const int32_t* sample_rows = nullptr;   // [R] tokens whose logits are wanted
  // [P] tokens whose logits Model::Logits is asked for after Forward.
  const int32_t* prompt_rows = nullptr;
  int32_t num_prompt_rows = 0;            // P
  const ChoiceRow* choices = nullptr;     // [R] for Backend::ChooseTokens
  const int32_t* block_tables = nullptr;  // [max_num_seqs, max_blocks_per_seq]
  int32_t max_blocks_per_seq = 0;
  SparseRows sparse = {};  // in layers from kFirstSparseLayer on
  // See AttentionParams for both. Prompts may share blocks that the step computes.
  bool are_contexts_apart = false;
  int32_t min_new_tokens = 0;
};

// The whole KV cache of this rank.
struct KvCache {
  void* base = nullptr;
  KvLayout layout = {};
  int32_t num_blocks = 0;
};

// The columns of the logits that a rank computes.
struct VocabShard {
  int32_t first_id = 0;
  int32_t num_ids = 0;  // columns; the last rank may have fewer
};

// Sizes of the largest step, from which every activation buffer is allocated,
// and what steps may do.
struct StepLimits {
  int32_t max_num_batched_tokens = 0;
  int32_t max_num_seqs = 0;
  int32_t max_model_len = 0;
  // Blocks of its context that a sparse token reads (common/
  // sparse_attention.h); 0: no token is sparse.
  int32_t sparse_pages = 0;
};

// Thread-compatible. Borrows the backend and the collective.
class Model {
 public:
  virtual ~Model() = default;

  // Runs one step: writes the new tokens' keys and values to the cache and
  // logits [R, vocab_shard().num_ids] f32 to device memory that stays valid
  // until the next call. Allocates nothing.
  // REQUIRES: sizes within the limits given at creation.
  virtual absl::StatusOr<const float*> Forward(const BatchInput& batch,
                                               const KvCache& cache) = 0;

  // Logits [num_rows, vocab_shard().num_ids] f32 of some of the last batch's
  // prompt_rows, in the memory of Forward's. REQUIRES: the last call of Forward
  // succeeded, num_rows <= max_num_seqs.
  virtual absl::StatusOr<const float*> Logits(const int32_t* rows,
                                              int32_t num_rows) = 0;

  virtual VocabShard vocab_shard() const = 0;
  // Layout of this rank's cache for the given block size.
  virtual KvLayout kv_layout(int32_t block_size) const = 0;
  virtual int64_t weight_bytes() const = 0;
  virtual int64_t activation_bytes() const = 0;
};

}  // namespace quire

#endif  // WORKER_MODEL_MODEL_H_
