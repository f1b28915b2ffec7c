// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/open_weights.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/weights/model_folder.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

TEST(OpenWeightsTest, ReadsTheFolder) {
  ModelFolder folder;
  EXPECT_FALSE(OpenWeights({.folder = folder.path()}).ok());
  folder.Write("model.safetensors",
               SafetensorsOf({{"w", "F32", {1}, F32Bytes({1})}}));
  EXPECT_TRUE(OpenWeights({.folder = folder.path()}).ok());
  EXPECT_TRUE(
      OpenWeights({.folder = folder.path(), .load_format = "safetensors"})
          .ok());
}

TEST(OpenWeightsTest, DummyNeedsNoFiles) {
  EXPECT_TRUE(OpenWeights({.folder = "nowhere", .load_format = "dummy"}).ok());
}

TEST(OpenWeightsTest, ListsTheFormats) {
  const absl::Status status = OpenWeights({.load_format = "gguf"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(),
              HasSubstr("\"gguf\", expected one of: auto, safetensors, dummy"));
}

}  // namespace
}  // namespace quire
