// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/checkpoint.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/weights/model_folder.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string OneTensor(const std::string& name) {
  return SafetensorsOf({{name, "F32", {1}, F32Bytes({1})}});
}

std::string Index(const std::string& weight_map) {
  return absl::StrCat(R"({"metadata":{"total_size":8},"weight_map":)",
                      weight_map, "}");
}

constexpr char kIndex[] = "model.safetensors.index.json";

absl::Status OpenError(const ModelFolder& folder) {
  return Checkpoint::Open(folder.path()).status();
}

TEST(CheckpointTest, OpensASingleFile) {
  ModelFolder folder;
  folder.Write("model.safetensors", OneTensor("w"));
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->Names(), ElementsAre("w"));
  EXPECT_NE((*checkpoint)->Find("w"), nullptr);
  EXPECT_EQ((*checkpoint)->Find("v"), nullptr);
}

TEST(CheckpointTest, OpensShards) {
  ModelFolder folder;
  folder.Write("a.safetensors", OneTensor("v"));
  folder.Write("b.safetensors", OneTensor("w"));
  folder.Write(kIndex, Index(R"({"v":"a.safetensors","w":"b.safetensors"})"));
  const auto checkpoint = Checkpoint::Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->Names(), ElementsAre("v", "w"));
  EXPECT_NE((*checkpoint)->Find("v")->file, (*checkpoint)->Find("w")->file);
  EXPECT_EQ((*checkpoint)->file_bytes(),
            OneTensor("v").size() + OneTensor("w").size());
}

TEST(CheckpointTest, NamesAMissingFolder) {
  ModelFolder folder;
  const absl::Status status =
      Checkpoint::Open(folder.PathOf("nowhere")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("nowhere"));
}

TEST(CheckpointTest, SaysWhatAFolderWithoutWeightsLacks) {
  ModelFolder folder;
  folder.Write("config.json", "{}");
  EXPECT_EQ(OpenError(folder).code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(OpenError(folder).message(),
              HasSubstr("neither model.safetensors nor "
                        "model.safetensors.index.json; download the model's "
                        "*.safetensors files into it"));
}

TEST(CheckpointTest, SaysHowToConvertPickledWeights) {
  ModelFolder folder;
  folder.Write("pytorch_model.bin", "pickle");
  EXPECT_EQ(OpenError(folder).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("pytorch_model.bin"));
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("python3 -c"));
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("save_pretrained"));
}

TEST(CheckpointTest, ListsMissingShards) {
  ModelFolder folder;
  folder.Write("b.safetensors", OneTensor("w"));
  folder.Write(kIndex, Index(R"({"u":"c.safetensors","v":"a.safetensors",)"
                             R"("w":"b.safetensors"})"));
  EXPECT_EQ(OpenError(folder).code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(OpenError(folder).message(),
              HasSubstr("2 of 3 shards are missing: a.safetensors, "
                        "c.safetensors; download them into it"));
}

TEST(CheckpointTest, NamesTheShardThatLacksItsTensor) {
  ModelFolder folder;
  folder.Write("a.safetensors", OneTensor("v"));
  folder.Write(kIndex, Index(R"({"w":"a.safetensors"})"));
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("/a.safetensors: lacks"));
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("\"w\""));
}

TEST(CheckpointTest, RefusesATensorInTwoShards) {
  ModelFolder folder;
  folder.Write("a.safetensors", OneTensor("v"));
  folder.Write("b.safetensors",
               SafetensorsOf({{"v", "F32", {1}, F32Bytes({1})},
                              {"w", "F32", {1}, F32Bytes({1})}}));
  folder.Write(kIndex, Index(R"({"v":"a.safetensors","w":"b.safetensors"})"));
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("tensor \"v\" is also"));
}

TEST(CheckpointTest, NamesShardAndTensorOfATruncatedShard) {
  ModelFolder folder;
  const std::string bytes = OneTensor("w");
  folder.Write("a.safetensors", bytes.substr(0, bytes.size() - 1));
  folder.Write(kIndex, Index(R"({"w":"a.safetensors"})"));
  EXPECT_THAT(OpenError(folder).message(),
              HasSubstr("/a.safetensors: tensor \"w\""));
}

class BadIndexTest : public testing::TestWithParam<const char*> {};

TEST_P(BadIndexTest, IsRefusedByName) {
  ModelFolder folder;
  folder.Write("a.safetensors", OneTensor("w"));
  folder.Write(kIndex, GetParam());
  EXPECT_EQ(OpenError(folder).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(OpenError(folder).message()),
              StartsWith(absl::StrCat(folder.path(), "/", kIndex)));
}

INSTANTIATE_TEST_SUITE_P(
    EachRule, BadIndexTest,
    testing::Values("", "[]", "{", "{}", R"({"weight_map":[]})",
                    R"({"weight_map":{}})", R"({"weight_map":{"w":1}})",
                    R"({"weight_map":{"w":null}})",
                    R"({"weight_map":{"w":""}})",
                    R"({"weight_map":{"w":"../a.safetensors"}})",
                    R"({"weight_map":{"w":"..safetensors"}})",
                    R"({"weight_map":{"w":"/etc/a.safetensors"}})",
                    R"({"weight_map":{"w":"sub/a.safetensors"}})",
                    R"({"weight_map":{"w":"a.bin"}})",
                    "{\"weight_map\":{\"w\":\"a\\u0000.safetensors\"}}"));

}  // namespace
}  // namespace quire
