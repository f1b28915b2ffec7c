// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/server_queries.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "common/wire/status_wire.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/inference.grpc.pb.h"

namespace quire {
namespace {

template <typename Service, typename Request, typename Response>
absl::StatusOr<Response> Ask(
    const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout,
    grpc::Status (Service::Stub::*method)(grpc::ClientContext*, const Request&,
                                          Response*),
    const Request& request = {}) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  Response response;
  typename Service::Stub stub(channel);
  const grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) return FromGrpcStatus(status);
  return response;
}

}  // namespace

absl::StatusOr<v1::StatusResponse> GetClusterStatus(
    const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout) {
  return Ask<v1::Cluster>(channel, timeout, &v1::Cluster::Stub::Status);
}

absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo(
    const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout) {
  return Ask<v1::Inference>(channel, timeout,
                            &v1::Inference::Stub::GetServerInfo);
}

absl::StatusOr<v1::ExplainResponse> ExplainRequest(
    const std::shared_ptr<grpc::Channel>& channel,
    const std::string& request_id, absl::Duration timeout) {
  v1::ExplainRequest request;
  request.set_request_id(request_id);
  return Ask<v1::Inference>(channel, timeout, &v1::Inference::Stub::Explain,
                            request);
}

absl::StatusOr<v1::ListModelsResponse> ListModels(
    const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout) {
  return Ask<v1::Inference>(channel, timeout, &v1::Inference::Stub::ListModels);
}

}  // namespace quire
