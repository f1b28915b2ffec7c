// SPDX-License-Identifier: Apache-2.0
//
// The coordinator's flags, named as vLLM names them.
#ifndef COORDINATOR_COORDINATOR_FLAGS_H_
#define COORDINATOR_COORDINATOR_FLAGS_H_

#include "absl/status/statusor.h"
#include "coordinator/coordinator.h"

namespace quire {

// The flags' values as options. InvalidArgument names the flag, its value and
// what it may be.
absl::StatusOr<CoordinatorOptions> OptionsFromFlags();

// Whether --exit_with_parent was given.
bool ExitWithParent();

}  // namespace quire

#endif  // COORDINATOR_COORDINATOR_FLAGS_H_
