// SPDX-License-Identifier: Apache-2.0
#include "common/status_macros.h"

#include <gtest/gtest.h>

#include <memory>

namespace quire {
namespace {

absl::StatusOr<std::unique_ptr<int>> Make(bool ok) {
  if (!ok) return absl::NotFoundError("no number");
  return std::make_unique<int>(42);
}

absl::StatusOr<int> Read(bool ok) {
  QUIRE_ASSIGN_OR_RETURN(const std::unique_ptr<int> number, Make(ok));
  return *number;
}

absl::Status Check(bool ok) {
  QUIRE_RETURN_IF_ERROR(Read(ok).status());
  return absl::OkStatus();
}

TEST(StatusMacrosTest, AssignMovesTheValueOut) {
  ASSERT_TRUE(Read(/*ok=*/true).ok());
  EXPECT_EQ(*Read(/*ok=*/true), 42);
}

TEST(StatusMacrosTest, AnErrorReturnsUnchanged) {
  EXPECT_EQ(Read(/*ok=*/false).status(), absl::NotFoundError("no number"));
  EXPECT_EQ(Check(/*ok=*/false), absl::NotFoundError("no number"));
  EXPECT_TRUE(Check(/*ok=*/true).ok());
}

}  // namespace
}  // namespace quire
