// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/public_error.h"

#include <string>

#include "common/wire/error_details.h"

namespace quire {
namespace {

// A queue moves within a second; workers need a few to come back.
constexpr absl::Duration kQueueRetryDelay = absl::Seconds(1);
constexpr absl::Duration kWorkersRetryDelay = absl::Seconds(5);

}  // namespace

absl::Status AsPublicError(absl::Status status,
                           absl::string_view unavailable_reason) {
  if (status.ok()) return status;
  ErrorDetails details = GetErrorDetails(status);
  if (!details.reason.empty()) return status;
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      details.reason = "INVALID_PARAMETER";
      break;
    case absl::StatusCode::kNotFound:
      details.reason = "REQUEST_NOT_FOUND";
      break;
    case absl::StatusCode::kAlreadyExists:
      details.reason = "REQUEST_ID_IN_USE";
      break;
    case absl::StatusCode::kResourceExhausted:
      details.reason = "QUEUE_FULL";
      details.retry_delay = kQueueRetryDelay;
      break;
    case absl::StatusCode::kUnavailable:
      details.reason = std::string(unavailable_reason);
      details.retry_delay = kWorkersRetryDelay;
      break;
    case absl::StatusCode::kDeadlineExceeded:
      details.reason = "DEADLINE_EXCEEDED";
      break;
    case absl::StatusCode::kCancelled:
      details.reason = "REQUEST_CANCELLED";
      break;
    default:
      details.reason = "INTERNAL";
      break;
  }
  SetErrorDetails(details, &status);
  return status;
}

}  // namespace quire
