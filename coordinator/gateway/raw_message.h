// SPDX-License-Identifier: Apache-2.0
//
// Messages as gRPC carries them. A client's are looked at before they are
// parsed, as an empty message of a list has two bytes on the wire and may take
// a hundred and fifty in memory.
#ifndef COORDINATOR_GATEWAY_RAW_MESSAGE_H_
#define COORDINATOR_GATEWAY_RAW_MESSAGE_H_

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"

namespace quire {

// Messages, strings, packed lists and unknown fields of a request, all
// together: 32 for each of the messages that a conversation may have. Parsed,
// they take 30 MB at most beside their bytes.
inline constexpr int kMaxRequestParts = 128 << 10;

// Parses `bytes`, which is empty afterwards, into *request. InvalidArgument
// if they are no such message; with reason INVALID_PARAMETER and the field's
// name, before anything is parsed, if it has more than kMaxRequestParts.
absl::Status ReadRequest(grpc::ByteBuffer* bytes,
                         google::protobuf::Message* request);

grpc::ByteBuffer EncodeResponse(const google::protobuf::Message& response);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_RAW_MESSAGE_H_
