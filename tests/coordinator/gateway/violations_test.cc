// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/violations.h"

#include <cmath>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(ViolationsTest, NothingWrongIsOk) {
  Violations violations;
  violations.CheckRange("top_k", 3, /*in_range=*/true, "at least 1");
  EXPECT_TRUE(violations.ToStatus().ok());
}

TEST(ViolationsTest, AllAreListedAndTheFirstIsTheMessage) {
  Violations violations;
  violations.CheckRange("top_p", 1.5f, /*in_range=*/false, "at most 1");
  violations.Add("text", "text is missing");
  const absl::Status status = violations.ToStatus();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "top_p=1.5 is out of range; it must be at most 1");
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, "INVALID_PARAMETER");
  EXPECT_EQ(details.metadata.at("field"), "sampling.top_p");
  ASSERT_EQ(details.field_violations.size(), 2);
  EXPECT_EQ(details.field_violations[0].field, "sampling.top_p");
  EXPECT_EQ(details.field_violations[1].description, "text is missing");
}

TEST(ViolationsTest, AReasonOfItsOwnIsKept) {
  const absl::Status status =
      InvalidFields("CONTEXT_LENGTH_EXCEEDED", {{"text", "too long"}});
  EXPECT_EQ(GetErrorDetails(status).reason, "CONTEXT_LENGTH_EXCEEDED");
}

}  // namespace
}  // namespace quire
