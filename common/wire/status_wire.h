// SPDX-License-Identifier: Apache-2.0
//
// absl::Status <-> grpc::Status. Payloads (common/wire/error_details.h) travel
// as the details of a google.rpc.Status.
#ifndef COMMON_WIRE_STATUS_WIRE_H_
#define COMMON_WIRE_STATUS_WIRE_H_

#include "absl/status/status.h"

namespace grpc {
class Status;
}  // namespace grpc

namespace quire {

grpc::Status ToGrpcStatus(const absl::Status& status);

// A code that absl does not know becomes Unknown. Details that do not parse
// are dropped: the peer may be anyone.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace quire

#endif  // COMMON_WIRE_STATUS_WIRE_H_
