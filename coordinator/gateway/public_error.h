// SPDX-License-Identifier: Apache-2.0
//
// Gives an error of the engine the reason and the retry hint that public
// clients are promised (proto/inference.proto).
#ifndef COORDINATOR_GATEWAY_PUBLIC_ERROR_H_
#define COORDINATOR_GATEWAY_PUBLIC_ERROR_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace quire {

// `status` with an ErrorInfo reason for its code, and RetryInfo where trying
// again helps, unless it has a reason already. An Unavailable error becomes
// `unavailable_reason`: only the caller knows whether the request had begun.
absl::Status AsPublicError(absl::Status status,
                           absl::string_view unavailable_reason);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_PUBLIC_ERROR_H_
