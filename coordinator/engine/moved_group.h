// SPDX-License-Identifier: Apache-2.0
//
// A request on its way from an engine that has lost its workers to another.
#ifndef COORDINATOR_ENGINE_MOVED_GROUP_H_
#define COORDINATOR_ENGINE_MOVED_GROUP_H_

#include <cstdint>
#include <memory>

#include "coordinator/engine/sequence_group.h"
#include "coordinator/engine/timeline.h"

namespace quire {

// All that the engines must know of it: its sequences hold no slot and no
// block, and the tokens that their streams have told.
struct MovedGroup {
  std::unique_ptr<SequenceGroup> group;
  Timeline timeline;               // waits since timeline.end
  int32_t num_charged_tokens = 0;  // that its tenant has paid for
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_MOVED_GROUP_H_
