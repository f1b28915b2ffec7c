// SPDX-License-Identifier: Apache-2.0
//
// KV managers by the name that --kv_manager takes.
#ifndef COORDINATOR_KV_KV_MANAGER_REGISTRY_H_
#define COORDINATOR_KV_KV_MANAGER_REGISTRY_H_

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "coordinator/kv/kv_manager.h"

namespace quire {

// InvalidArgument for an unknown name (the known ones are listed) or options
// that no manager could work with.
absl::StatusOr<std::unique_ptr<KvManager>> MakeKvManager(
    std::string_view name, const KvOptions& options);

// Whether managers of that name let sequences share memory. InvalidArgument for
// an unknown name. Thread-safe.
absl::StatusOr<bool> CanFork(std::string_view name);

// Whether what managers of that name hand out are the blocks of tokens in which
// workers keep keys and values. InvalidArgument for an unknown name.
absl::StatusOr<bool> HasTokenBlocks(std::string_view name);

// Blocks that a sequence of `num_tokens` known tokens takes of an otherwise
// empty pool until it is `max_num_tokens` long. It runs alone exactly if the
// pool has so many. `window`: tokens that its attention looks back on, 0: all;
// where blocks behind it are given back, a sequence whose prompt comes in
// chunks of any size needs no more than those in it. InvalidArgument for an
// unknown name. Thread-safe.
absl::StatusOr<int64_t> NumBlocksAlone(std::string_view name,
                                       const KvOptions& options,
                                       int32_t num_tokens,
                                       int32_t max_num_tokens,
                                       int32_t window = 0);

}  // namespace quire

#endif  // COORDINATOR_KV_KV_MANAGER_REGISTRY_H_
