// SPDX-License-Identifier: Apache-2.0
#include "common/text/ffi_call.h"

#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(FfiCallTest, AnEmptyBufferIsAnEmptyText) {
  FfiBuffer buffer;
  EXPECT_TRUE(buffer.view().empty());
}

TEST(FfiCallTest, CodesBecomeStatusesWithTheirContext) {
  FfiBuffer error;
  EXPECT_TRUE(FfiStatus(QT_OK, error, "a.json").ok());
  const absl::Status bad = FfiStatus(QT_INVALID_ARGUMENT, error, "a.json");
  EXPECT_EQ(bad.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bad.message(), "a.json: ");
  // A panic is never the caller's fault, and neither is an unknown code.
  for (const int32_t code : {int32_t{QT_INTERNAL}, int32_t{99}}) {
    const absl::Status broken = FfiStatus(code, error);
    EXPECT_EQ(broken.code(), absl::StatusCode::kInternal);
    EXPECT_EQ(broken.message(), "text library: ");
  }
}

TEST(FfiCallTest, BytesAreTheTextsOwn) {
  const std::string text = "caf\xc3\xa9";
  EXPECT_EQ(static_cast<const void*>(FfiBytes(text)), text.data());
}

}  // namespace
}  // namespace quire
