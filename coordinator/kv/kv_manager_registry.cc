// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/kv_manager_registry.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/kv/attention_window.h"
#include "coordinator/kv/paged_manager.h"
#include "coordinator/kv/reserved_manager.h"
#include "coordinator/kv/virtual_manager.h"

namespace quire {
namespace {

constexpr int32_t kMaxBlockSize = 256;  // tokens

struct Registration {
  std::string_view name;
  std::unique_ptr<KvManager> (*make)(const KvOptions&);
  // Blocks that a sequence of `num_tokens` known tokens holds when it is
  // `max_num_tokens` long and alone.
  int64_t (*num_blocks_alone)(const KvOptions&, int32_t num_tokens,
                              int32_t max_num_tokens);
  // Blocks are page groups, whose size is the workers' to say.
  bool has_pages = false;
  bool can_fork = false;  // as its managers say
  bool can_drop = false;  // likewise
};

template <typename Manager>
std::unique_ptr<KvManager> Make(const KvOptions& options) {
  return std::make_unique<Manager>(options);
}

template <LengthRule rule>
std::unique_ptr<KvManager> MakeReserved(const KvOptions& options) {
  return std::make_unique<ReservedManager>(options, rule);
}

// On demand. The last output token is never stored.
int64_t BlocksOnDemand(const KvOptions& options, int32_t /*num_tokens*/,
                       int32_t max_num_tokens) {
  return (int64_t{max_num_tokens} - 1 + options.block_size - 1) /
         options.block_size;
}

template <LengthRule rule>
int64_t BlocksReserved(const KvOptions& options, int32_t num_tokens,
                       int32_t max_num_tokens) {
  return ReservedManager::MostRangeBlocks(options, rule, num_tokens,
                                          max_num_tokens);
}

constexpr Registration kManagers[] = {
    {"paged", &Make<PagedManager>, &BlocksOnDemand, /*has_pages=*/false,
     /*can_fork=*/true, /*can_drop=*/true},
    {"orca_max", &MakeReserved<LengthRule::kMax>,
     &BlocksReserved<LengthRule::kMax>},
    {"orca_pow2", &MakeReserved<LengthRule::kPow2>,
     &BlocksReserved<LengthRule::kPow2>},
    {"orca_oracle", &MakeReserved<LengthRule::kOracle>,
     &BlocksReserved<LengthRule::kOracle>},
    {"virtual", &Make<VirtualManager>, &BlocksOnDemand, /*has_pages=*/true},
};

absl::StatusOr<const Registration*> Find(std::string_view name) {
  std::string known;
  for (const Registration& registration : kManagers) {
    if (registration.name == name) return &registration;
    absl::StrAppend(&known, known.empty() ? "" : ", ",
                    std::string(registration.name));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--kv_manager=", std::string(name), " is unknown; known: ", known));
}

absl::Status CheckOptions(const Registration& registration,
                          const KvOptions& options) {
  const int32_t size = options.block_size;
  const bool is_block_size = size <= kMaxBlockSize && (size & (size - 1)) == 0;
  if (size < 1 || (!registration.has_pages && !is_block_size)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--block_size=", size, ": want a power of two, 1 to ", kMaxBlockSize));
  }
  if (options.num_blocks < 1 || options.max_num_seqs < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("no room for a sequence: ", options.num_blocks,
                     " KV blocks, --max_num_seqs=", options.max_num_seqs));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvManager>> MakeKvManager(
    std::string_view name, const KvOptions& options) {
  QUIRE_ASSIGN_OR_RETURN(const Registration* registration, Find(name));
  QUIRE_RETURN_IF_ERROR(CheckOptions(*registration, options));
  return registration->make(options);
}

absl::StatusOr<bool> CanFork(std::string_view name) {
  QUIRE_ASSIGN_OR_RETURN(const Registration* registration, Find(name));
  return registration->can_fork;
}

absl::StatusOr<bool> HasTokenBlocks(std::string_view name) {
  QUIRE_ASSIGN_OR_RETURN(const Registration* registration, Find(name));
  return !registration->has_pages;
}

absl::StatusOr<int64_t> NumBlocksAlone(std::string_view name,
                                       const KvOptions& options,
                                       int32_t num_tokens,
                                       int32_t max_num_tokens, int32_t window) {
  QUIRE_ASSIGN_OR_RETURN(const Registration* registration, Find(name));
  const int64_t num_blocks =
      registration->num_blocks_alone(options, num_tokens, max_num_tokens);
  if (window == 0 || !registration->can_drop) return num_blocks;
  return std::min(num_blocks, MostBlocksOver(std::max(kLeastWindow, window),
                                             options.block_size));
}

}  // namespace quire
