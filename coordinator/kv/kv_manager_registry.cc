// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/kv_manager_registry.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "coordinator/kv/paged_manager.h"

namespace quire {
namespace {

constexpr int32_t kMaxBlockSize = 256;  // tokens

struct Registration {
  std::string_view name;
  std::unique_ptr<KvManager> (*make)(const KvOptions&);
};

template <typename Manager>
std::unique_ptr<KvManager> Make(const KvOptions& options) {
  return std::make_unique<Manager>(options);
}

constexpr Registration kManagers[] = {
    {"paged", &Make<PagedManager>},
};

absl::Status CheckOptions(const KvOptions& options) {
  const int32_t size = options.block_size;
  if (size < 1 || size > kMaxBlockSize || (size & (size - 1)) != 0) {
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
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  std::string known;
  for (const Registration& registration : kManagers) {
    if (registration.name == name) return registration.make(options);
    absl::StrAppend(&known, known.empty() ? "" : ", ",
                    std::string(registration.name));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--kv_manager=", std::string(name), " is unknown; known: ", known));
}

}  // namespace quire
