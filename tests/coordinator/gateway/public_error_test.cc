// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/public_error.h"

#include "common/wire/error_details.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

struct Case {
  absl::StatusCode code;
  const char* reason;
  bool retry;
};

TEST(PublicErrorTest, EveryCodeHasItsReason) {
  const Case cases[] = {
      {absl::StatusCode::kInvalidArgument, "INVALID_PARAMETER", false},
      {absl::StatusCode::kNotFound, "REQUEST_NOT_FOUND", false},
      {absl::StatusCode::kAlreadyExists, "REQUEST_ID_IN_USE", false},
      {absl::StatusCode::kResourceExhausted, "QUEUE_FULL", true},
      {absl::StatusCode::kUnavailable, "WORKER_LOST", true},
      {absl::StatusCode::kDeadlineExceeded, "DEADLINE_EXCEEDED", false},
      {absl::StatusCode::kCancelled, "REQUEST_CANCELLED", false},
      {absl::StatusCode::kInternal, "INTERNAL", false},
      {absl::StatusCode::kDataLoss, "INTERNAL", false},
  };
  for (const Case& each : cases) {
    const absl::Status status =
        AsPublicError(absl::Status(each.code, "why"), "WORKER_LOST");
    EXPECT_EQ(status.code(), each.code);
    EXPECT_EQ(status.message(), "why");
    EXPECT_EQ(GetErrorDetails(status).reason, each.reason);
    EXPECT_EQ(GetErrorDetails(status).retry_delay.has_value(), each.retry);
  }
}

TEST(PublicErrorTest, ReasonThatIsThereStays) {
  absl::Status status = absl::UnavailableError("why");
  ErrorDetails details;
  details.reason = "DRAINING";
  SetErrorDetails(details, &status);
  EXPECT_EQ(AsPublicError(status, "WORKER_LOST"), status);
  EXPECT_TRUE(AsPublicError(absl::OkStatus(), "WORKER_LOST").ok());
}

}  // namespace
}  // namespace quire
