// SPDX-License-Identifier: Apache-2.0
#include "common/wire/status_wire.h"

#include <grpcpp/support/status.h>

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "common/wire/rpc_status.pb.h"

namespace quire {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status rpc_status;
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    auto* detail = rpc_status.add_details();
    detail->set_type_url(std::string(url));
    detail->set_value(std::string(payload));
  });
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message(status.message());
  if (rpc_status.details().empty()) return grpc::Status(code, message);
  rpc_status.set_code(static_cast<int>(code));
  rpc_status.set_message(message);
  return grpc::Status(code, message, rpc_status.SerializeAsString());
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::StatusCode code = static_cast<absl::StatusCode>(status.error_code());
  // absl and gRPC number the same canonical codes, 1 to 16.
  if (status.error_code() < 1 || status.error_code() > 16) {
    code = absl::StatusCode::kUnknown;
  }
  absl::Status result(code, status.error_message());
  google::rpc::Status rpc_status;
  if (rpc_status.ParseFromString(status.error_details())) {
    for (const auto& detail : rpc_status.details()) {
      result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
    }
  }
  return result;
}

}  // namespace quire
