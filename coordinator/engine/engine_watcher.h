// SPDX-License-Identifier: Apache-2.0
//
// What engine loops tell whoever spreads requests over several of them.
#ifndef COORDINATOR_ENGINE_ENGINE_WATCHER_H_
#define COORDINATOR_ENGINE_ENGINE_WATCHER_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/moved_group.h"
#include "coordinator/kv/prefix_summary.h"

namespace quire {

// Called on the engine threads, each for its own loop, which holds no lock.
class EngineWatcher {
 public:
  virtual ~EngineWatcher() = default;

  // Submit is heard by workers from now on, or by none.
  virtual void OnReadiness(int32_t engine_idx, bool is_ready) = 0;

  // Requests whose first token has come, and those that have ended. Comes
  // before the listener hears the same.
  virtual void OnProgress(int32_t engine_idx,
                          absl::Span<const RequestKey> begun,
                          absl::Span<const RequestEnd> ended) = 0;

  // These requests have lost their workers, because of `cause`, and left the
  // engine, oldest first; their streams go on with whoever adopts them.
  virtual void OnStranded(int32_t engine_idx, const absl::Status& cause,
                          std::vector<MovedGroup> groups) = 0;

  // A message for a request that the engine does not have, because it ended or
  // because it left; `repeat` tells another engine.
  virtual void OnStray(int32_t engine_idx, RequestKey key,
                       absl::FunctionRef<void(EngineClient*)> repeat) = 0;
};

// A loop's place among several.
struct EngineSeat {
  int32_t engine_idx = 0;  // [0, num_engines)
  int32_t num_engines = 1;
  EngineWatcher* watcher = nullptr;   // null: it is alone
  PrefixSummary* prefixes = nullptr;  // told what its pool has; may be null
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_ENGINE_WATCHER_H_
