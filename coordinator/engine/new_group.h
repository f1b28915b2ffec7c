// SPDX-License-Identifier: Apache-2.0
//
// What a request becomes when the engine takes it: a group of sequences, which
// hold its prompt and nothing else yet.
#ifndef COORDINATOR_ENGINE_NEW_GROUP_H_
#define COORDINATOR_ENGINE_NEW_GROUP_H_

#include <memory>

#include "common/ids.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_options.h"
#include "coordinator/engine/sequence_group.h"
#include "coordinator/kv/kv_manager.h"

namespace quire {

// Of requests that find prefixes of others: whose. 0: nobody's.
CacheScope SharedScopeOf(const EngineOptions& options,
                         const EngineRequest& request);

// The group of `request`, accepted under `key`. Whoever takes it in sets its
// arrival, its tenant and rank, and the ids of its sequences.
std::unique_ptr<SequenceGroup> NewGroup(const EngineOptions& options,
                                        RequestKey key, EngineRequest request);

}  // namespace quire

#endif  // COORDINATOR_ENGINE_NEW_GROUP_H_
