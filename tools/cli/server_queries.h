// SPDX-License-Identifier: Apache-2.0
//
// Short questions to a server, answered within a timeout. Errors carry the
// RPC's code and message.
#ifndef TOOLS_CLI_SERVER_QUERIES_H_
#define TOOLS_CLI_SERVER_QUERIES_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/cluster.pb.h"
#include "proto/inference.pb.h"
#include "tools/cli/rpc.h"

namespace quire {

// On the control port.
absl::StatusOr<v1::StatusResponse> GetClusterStatus(
    const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout);

// On the public port.
absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo(
    const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout);
// NotFound if the server does not remember the request.
absl::StatusOr<v1::ExplainResponse> ExplainRequest(
    const std::shared_ptr<grpc::Channel>& channel,
    const std::string& request_id, absl::Duration timeout);
absl::StatusOr<v1::ListModelsResponse> ListModels(
    const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout);

}  // namespace quire

#endif  // TOOLS_CLI_SERVER_QUERIES_H_
