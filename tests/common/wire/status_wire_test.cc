// SPDX-License-Identifier: Apache-2.0
#include "common/wire/status_wire.h"

#include <grpcpp/support/status.h>

#include "common/wire/error_details.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(StatusWireTest, EveryCodeAndMessageMakeTheRoundTrip) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "why");
    const grpc::Status sent = ToGrpcStatus(status);
    EXPECT_EQ(static_cast<int>(sent.error_code()), code);
    EXPECT_EQ(FromGrpcStatus(sent), status);
  }
}

TEST(StatusWireTest, DetailsMakeTheRoundTrip) {
  absl::Status status = absl::ResourceExhaustedError("the queue is full");
  ErrorDetails details;
  details.reason = "QUEUE_FULL";
  details.retry_delay = absl::Seconds(2);
  SetErrorDetails(details, &status);
  const absl::Status received = FromGrpcStatus(ToGrpcStatus(status));
  EXPECT_EQ(received, status);
  EXPECT_EQ(GetErrorDetails(received), details);
}

TEST(StatusWireTest, ForeignCodesBecomeUnknown) {
  const grpc::Status odd(static_cast<grpc::StatusCode>(17), "odd");
  EXPECT_EQ(FromGrpcStatus(odd), absl::UnknownError("odd"));
}

TEST(StatusWireTest, DetailsThatDoNotParseAreDropped) {
  const grpc::Status odd(grpc::StatusCode::INTERNAL, "odd", "\xff\xff\xff");
  EXPECT_EQ(FromGrpcStatus(odd), absl::InternalError("odd"));
}

}  // namespace
}  // namespace quire
