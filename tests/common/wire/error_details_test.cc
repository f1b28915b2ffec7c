// SPDX-License-Identifier: Apache-2.0
#include "common/wire/error_details.h"

#include "absl/strings/cord.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(ErrorDetailsTest, ComeBackAsTheyWereSet) {
  ErrorDetails details;
  details.reason = "CONTEXT_LENGTH_EXCEEDED";
  details.metadata = {{"limit", "8192"}, {"max_tokens", "9000"}};
  details.field_violations = {{"sampling.max_tokens", "too many"}};
  details.retry_delay = absl::Milliseconds(1500);
  absl::Status status = absl::InvalidArgumentError("too long");
  SetErrorDetails(details, &status);
  EXPECT_EQ(GetErrorDetails(status), details);
  EXPECT_EQ(status.message(), "too long");
}

TEST(ErrorDetailsTest, SettingAgainReplacesAll) {
  absl::Status status = absl::UnavailableError("later");
  ErrorDetails first;
  first.retry_delay = absl::Seconds(1);
  SetErrorDetails(first, &status);
  ErrorDetails second;
  second.reason = "DRAINING";
  SetErrorDetails(second, &status);
  EXPECT_EQ(GetErrorDetails(status), second);
}

TEST(ErrorDetailsTest, OkCarriesNone) {
  absl::Status status;
  ErrorDetails details;
  details.reason = "INTERNAL";
  SetErrorDetails(details, &status);
  EXPECT_EQ(GetErrorDetails(status), ErrorDetails());
}

TEST(ErrorDetailsTest, MalformedPayloadsReadAsNone) {
  absl::Status status = absl::InternalError("odd");
  status.SetPayload("type.googleapis.com/google.rpc.ErrorInfo",
                    absl::Cord("\xff\xff\xff"));
  EXPECT_EQ(GetErrorDetails(status), ErrorDetails());
}

}  // namespace
}  // namespace quire
