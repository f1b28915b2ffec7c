// SPDX-License-Identifier: Apache-2.0
//
// Page-sparse decode, as in Quest (Tang et al., ICML'24, arXiv 2406.10774): a
// decode reads the K pages of its context that promise most (kernels/
// attention.h says which), a page being a KV block. Off unless asked for, as it
// changes the output.
//
// Exactness. Which pages a token reads is a function of its sequence, of its
// position and of where the prompt ends: tokens of the prompt, and those whose
// context has K pages at most, read everything; every later token is sparse
// whenever it is computed, by a decode, or by a chunk after a preemption. So
// output does not depend on the batch, on chunks or on preemption, as ever. It
// does depend on the block size. Keys and values of sparse tokens are those of
// no other prompt, so other requests may find a sequence's dense tokens only.
#ifndef COMMON_SPARSE_ATTENTION_H_
#define COMMON_SPARSE_ATTENTION_H_

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace quire {

// The first page and the two most recent ones are always read, so that of four
// pages one is chosen. Two, since the most recent one may hold a single token.
constexpr int32_t kMinSparsePages = 4;

// Layers before this one read everything: attention is not sparse there
// (Quest, section 3, leaves the first two layers alone, too).
constexpr int32_t kFirstSparseLayer = 2;

// The first position at which a sequence's tokens are sparse.
constexpr int32_t FirstSparsePosition(int32_t num_pages, int32_t block_size,
                                      int32_t num_prompt_tokens) {
  const int64_t first =
      std::max(int64_t{num_pages} * block_size, int64_t{num_prompt_tokens});
  return static_cast<int32_t>(std::min<int64_t>(first, INT32_MAX));
}

// The K of "top_pages:K"; 0, off, of "". InvalidArgument names the flag, its
// value and what it may be.
absl::StatusOr<int32_t> ParseSparseAttention(absl::string_view value);

// The flag and its value, "--sparse_attention=top_pages:8", for messages.
std::string SparseAttentionFlag(int32_t num_pages);

}  // namespace quire

#endif  // COMMON_SPARSE_ATTENTION_H_
