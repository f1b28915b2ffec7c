// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/engine_options.h"

#include <limits>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "common/sparse_attention.h"
#include "common/status_macros.h"
#include "coordinator/engine/service_order.h"
#include "coordinator/kv/kv_manager_registry.h"

namespace quire {
namespace {

constexpr int32_t kMaxRunAhead = 16;  // steps
// Each has a seat on both sides, whether anybody sits on it or not.
constexpr int32_t kMaxSeqs = 1 << 20;
constexpr int64_t kMaxQueued = int64_t{1} << 50;  // tokens

// In whole numbers, if the value is one.
template <typename T>
absl::Status CheckRange(const char* flag, T value,
                        std::type_identity_t<T> least,
                        std::type_identity_t<T> most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, "=", value, ": want ", least, " to ", most));
}

}  // namespace

absl::Status ValidateEngineOptions(const EngineOptions& options) {
  constexpr int32_t kMany = std::numeric_limits<int32_t>::max() / 2;
  QUIRE_RETURN_IF_ERROR(
      CheckRange("max_num_seqs", options.max_num_seqs, 1, kMaxSeqs));
  QUIRE_RETURN_IF_ERROR(CheckRange("max_num_batched_tokens",
                                   options.max_num_batched_tokens, 1, kMany));
  QUIRE_RETURN_IF_ERROR(
      CheckRange("token_multiple", options.token_multiple, 1, kMany));
  QUIRE_RETURN_IF_ERROR(
      CheckRange("max_model_len", options.max_model_len, 2, kMany));
  QUIRE_RETURN_IF_ERROR(
      CheckRange("sliding_window", options.sliding_window, 0, kMany));
  QUIRE_RETURN_IF_ERROR(
      CheckRange("run_ahead_depth", options.run_ahead_depth, 1, kMaxRunAhead));
  QUIRE_RETURN_IF_ERROR(CheckRange("watermark", options.watermark, 0, 0.5));
  QUIRE_RETURN_IF_ERROR(
      CheckRange("max_queued_requests", options.max_queued_requests, 1, kMany));
  QUIRE_RETURN_IF_ERROR(CheckRange("max_queued_tokens",
                                   options.max_queued_tokens, 1, kMaxQueued));
  if (options.priority_ageing != absl::ZeroDuration()) {
    QUIRE_RETURN_IF_ERROR(CheckRange(
        "priority_ageing", absl::ToDoubleSeconds(options.priority_ageing),
        0.001, absl::ToDoubleSeconds(kMaxPriorityAgeing)));
  }
  QUIRE_ASSIGN_OR_RETURN(const bool has_blocks,
                         HasTokenBlocks(options.kv_manager));
  if (options.sparse_pages != 0) {
    if (options.sparse_pages < kMinSparsePages) {
      return absl::InvalidArgumentError(
          absl::StrCat(SparseAttentionFlag(options.sparse_pages),
                       ": want at least ", kMinSparsePages, " pages"));
    }
    if (options.sliding_window > 0) {
      return absl::UnimplementedError(absl::StrCat(
          SparseAttentionFlag(options.sparse_pages),
          " chooses among all blocks, and the model's sliding window of ",
          options.sliding_window,
          " tokens drops some: leave the flag out, or "
          "want --max_model_len=",
          options.sliding_window));
    }
    if (!has_blocks) {
      return absl::InvalidArgumentError(absl::StrCat(
          SparseAttentionFlag(options.sparse_pages),
          " chooses among KV blocks, and --kv_manager=", options.kv_manager,
          " has none: want --kv_manager=paged"));
    }
  }
  // A period of 1 would leave no step in which the preempted one runs.
  if (options.forced_preemption_period != 0) {
    QUIRE_RETURN_IF_ERROR(CheckRange("forced_preemption_period",
                                     options.forced_preemption_period, 2,
                                     kMany));
  }
  return absl::OkStatus();
}

absl::Status CheckFitsAlone(const EngineOptions& options, int32_t num_blocks,
                            int64_t num_prompt_tokens, int64_t max_tokens,
                            int32_t block_size, int32_t num_seqs) {
  const int64_t num_tokens = num_prompt_tokens + max_tokens;
  if (num_tokens > options.max_model_len) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the prompt has ", num_prompt_tokens, " tokens and max_tokens is ",
        max_tokens, ": together more than max_model_len ",
        options.max_model_len));
  }
  if (num_seqs > options.max_num_seqs) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the request runs ", num_seqs, " sequences at once; max_num_seqs is ",
        options.max_num_seqs, ": lower n, best_of or beam_width"));
  }
  QUIRE_ASSIGN_OR_RETURN(
      int64_t num_needed,
      NumBlocksAlone(
          options.kv_manager,
          {.num_blocks = num_blocks,
           .block_size = block_size > 0 ? block_size : options.block_size,
           .max_num_seqs = options.max_num_seqs,
           .max_model_len = options.max_model_len},
          static_cast<int32_t>(num_prompt_tokens),
          static_cast<int32_t>(num_tokens), options.sliding_window));
  num_needed *= num_seqs;
  if (num_needed > num_blocks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt and max_tokens, ", num_tokens, " tokens",
        num_seqs > 1 ? absl::StrCat(" in ", num_seqs, " sequences") : "",
        options.sliding_window > 0
            ? absl::StrCat(" behind a window of ", options.sliding_window)
            : "",
        ", need ", num_needed, " KV blocks; the pool has ", num_blocks));
  }
  return absl::OkStatus();
}

}  // namespace quire
