// SPDX-License-Identifier: Apache-2.0
//
// The engine's account of a request's waiting, as clients see it.
#ifndef COORDINATOR_GATEWAY_EXPLAIN_RESPONSE_H_
#define COORDINATOR_GATEWAY_EXPLAIN_RESPONSE_H_

#include "coordinator/engine/timeline.h"

namespace quire {

namespace v1 {
class ExplainResponse;
}  // namespace v1

// Fills an empty `response`. Nanoseconds are rounded down.
void FillExplainResponse(const Timeline& timeline,
                         v1::ExplainResponse* response);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_EXPLAIN_RESPONSE_H_
