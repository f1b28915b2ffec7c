// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/checkpoint_source.h"

#include <bit>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/weights/model_folder.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::unique_ptr<CheckpointSource> Open(const ModelFolder& folder) {
  auto checkpoint = Checkpoint::Open(folder.path());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return std::make_unique<CheckpointSource>(*std::move(checkpoint));
}

TensorSpec Matrix(const std::string& name, int64_t rows, int64_t cols) {
  return {name, rows, cols, /*is_vector=*/false};
}

// A slice as floats, row by row.
std::vector<float> Values(const HostMatrix& matrix) {
  std::vector<float> values;
  for (int64_t row = 0; row < matrix.rows; ++row) {
    for (int64_t col = 0; col < matrix.cols; ++col) {
      const int64_t at = row * matrix.row_stride + col;
      values.push_back(
          matrix.dtype == DType::kF32
              ? static_cast<const float*>(matrix.data)[at]
              : std::bit_cast<float>(
                    uint32_t{static_cast<const uint16_t*>(matrix.data)[at]}
                    << 16));
    }
  }
  return values;
}

// The 2 x 2 slice at (1, 1) of a 3 x 4 tensor with the values 0 to 11, once in
// each stored type.
class SliceTest : public testing::Test {
 protected:
  WeightSlice Slice(const std::string& name) const {
    return {Matrix(name, 3, 4), 1, 2, 1, 2};
  }

  void Write(int misalignment) {
    std::vector<float> floats;
    std::vector<uint16_t> bf16s;
    // 0 to 11 as IEEE halves.
    const std::vector<uint16_t> halves = {0,      0x3c00, 0x4000, 0x4200,
                                          0x4400, 0x4500, 0x4600, 0x4700,
                                          0x4800, 0x4880, 0x4900, 0x4980};
    for (int i = 0; i < 12; ++i) {
      const float value = static_cast<float>(i);
      floats.push_back(value);
      bf16s.push_back(
          static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
    }
    folder_.Write("model.safetensors",
                  SafetensorsOf({{"f32", "F32", {3, 4}, F32Bytes(floats)},
                                 {"bf16", "BF16", {3, 4}, U16Bytes(bf16s)},
                                 {"f16", "F16", {3, 4}, U16Bytes(halves)}},
                                misalignment));
  }

  ModelFolder folder_;
};

TEST_F(SliceTest, IsTheSameInEveryTypeAndAlignment) {
  for (const int misalignment : {0, 1, 2}) {
    Write(misalignment);
    const auto source = Open(folder_);
    ASSERT_TRUE(
        source
            ->Prepare({.tensors = {Matrix("f32", 3, 4), Matrix("bf16", 3, 4),
                                   Matrix("f16", 3, 4)},
                       .probe = "f32"})
            .ok());
    for (const char* name : {"f32", "bf16", "f16"}) {
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        auto loaded = source->Read(Slice(name), dtype);
        ASSERT_TRUE(loaded.ok()) << loaded.status();
        EXPECT_THAT(Values(loaded->matrix), ElementsAre(5, 6, 9, 10)) << name;
        EXPECT_TRUE(source->Release(Slice(name), *std::move(loaded)).ok());
      }
    }
  }
}

TEST_F(SliceTest, IsReadInPlaceWhenItCanBe) {
  Write(/*misalignment=*/0);
  const auto source = Open(folder_);
  ASSERT_TRUE(source
                  ->Prepare({.tensors = {Matrix("f32", 3, 4)},
                             .probe = "f32",
                             .unused_suffixes = {"f16"}})
                  .ok());
  const auto loaded = source->Read(Slice("f32"), DType::kBf16);
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(loaded->owned, nullptr);
  EXPECT_EQ(loaded->matrix.row_stride, 4);
  EXPECT_EQ(loaded->matrix.dtype, DType::kF32);
}

TEST_F(SliceTest, OfNoRowsIsEmpty) {
  Write(/*misalignment=*/0);
  const auto source = Open(folder_);
  WeightSlice slice = Slice("f32");
  slice.num_rows = 0;
  auto loaded = source->Read(slice, DType::kF32);
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(loaded->matrix.rows, 0);
  EXPECT_TRUE(source->Release(slice, *std::move(loaded)).ok());
}

std::string ManyTensors() {
  std::vector<TensorToWrite> tensors;
  for (int i = 0; i < 7; ++i) {
    tensors.push_back({absl::StrCat("extra", i), "F32", {1}, F32Bytes({1})});
  }
  tensors.push_back({"wide", "F32", {1, 2}, F32Bytes({1, 2})});
  tensors.push_back({"flat", "F32", {2}, F32Bytes({1, 2})});
  tensors.push_back({"ints", "U32", {1, 1}, F32Bytes({1})});
  return SafetensorsOf(tensors);
}

TEST(CheckpointSourceTest, CountsEveryKindOfMisfitAndNamesTheFirst) {
  ModelFolder folder;
  folder.Write("model.safetensors", ManyTensors());
  TensorSet expected;
  expected.probe = "wide";
  for (int i = 0; i < 6; ++i) {
    expected.tensors.push_back(Matrix(absl::StrCat("lost", i), 1, 1));
  }
  expected.tensors.push_back(Matrix("wide", 2, 1));
  expected.tensors.push_back(Matrix("flat", 2, 1));
  expected.tensors.push_back(Matrix("ints", 1, 1));
  const absl::Status status = Open(folder)->Prepare(expected);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr(folder.path()));
  EXPECT_THAT(message, HasSubstr("6 tensors are missing: lost0, lost1, lost2, "
                                 "lost3, lost4 ..."));
  EXPECT_THAT(message, HasSubstr("2 tensors are of the wrong shape: wide [1, "
                                 "2], expected [2, 1], flat [2], expected [2, "
                                 "1]"));
  EXPECT_THAT(message,
              HasSubstr("1 tensor is neither F32, BF16 nor F16: ints U32"));
  EXPECT_THAT(message, HasSubstr("7 tensors are not part of the model: extra0, "
                                 "extra1, extra2, extra3, extra4 ..."));
  EXPECT_THAT(message, HasSubstr("save the weights as F32, BF16 or F16"));
}

TEST(CheckpointSourceTest, WeightsOfAnotherModelCallForTheSameRelease) {
  ModelFolder folder;
  folder.Write("model.safetensors",
               SafetensorsOf({{"w", "F32", {1, 2}, F32Bytes({1, 2})}}));
  EXPECT_THAT(std::string(Open(folder)
                              ->Prepare({.tensors = {Matrix("w", 1, 3)},
                                         .probe = "lost"})
                              .message()),
              HasSubstr("take config.json and the weights from the same "
                        "release"));
}

// One folder's tensors as a quantizer leaves them; "w" of one row and one
// column is expected.
struct Quantized {
  const char* name;
  std::vector<TensorToWrite> tensors;
};

class QuantizedTest : public testing::TestWithParam<Quantized> {};

TEST_P(QuantizedTest, CallsForTheUnquantizedRelease) {
  ModelFolder folder;
  folder.Write("model.safetensors", SafetensorsOf(GetParam().tensors));
  const std::string message(
      Open(folder)
          ->Prepare({.tensors = {Matrix("w", 1, 1)}, .probe = "w"})
          .message());
  EXPECT_THAT(message, HasSubstr("quantized checkpoints are not supported: "
                                 "take the model's unquantized release"));
  EXPECT_THAT(message, Not(HasSubstr("same release")));
}

INSTANTIATE_TEST_SUITE_P(
    EachForm, QuantizedTest,
    testing::Values(
        Quantized{"Int8", {{"w", "I8", {1, 1}, "a"}}},
        Quantized{"Float8E4M3", {{"w", "F8_E4M3", {1, 1}, "a"}}},
        Quantized{"Float8E5M2", {{"w", "F8_E5M2", {1, 1}, "a"}}},
        // Of four bits each, in a shape of their own.
        Quantized{"Nibbles", {{"w", "U8", {2, 1}, "ab"}}},
        Quantized{"Packed", {{"w.qweight", "I32", {1, 1}, F32Bytes({1})}}},
        Quantized{"Scaled",
                  {{"w", "F32", {1, 1}, F32Bytes({1})},
                   {"w.weight_scale_inv", "F32", {1, 1}, F32Bytes({1})}}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(CheckpointSourceTest, SaysWhichVocabularyItsEmbeddingHas) {
  ModelFolder folder;
  folder.Write(
      "model.safetensors",
      SafetensorsOf({{"embed.weight", "F32", {3, 1}, F32Bytes({1, 2, 3})}}));
  TensorSet expected;
  expected.prefixes = {"model.", ""};
  expected.probe = "embed.weight";
  expected.tensors.push_back(Matrix("model.embed.weight", 5, 1));
  EXPECT_THAT(
      std::string(Open(folder)->Prepare(expected).message()),
      HasSubstr("1 tensor is of the wrong shape: embed.weight [3, 1], "
                "expected [5, 1]; for an embedding of 3 rows, config.json must "
                "say \"vocab_size\": 3"));
}

TEST(CheckpointSourceTest, AVectorHasOneDimension) {
  ModelFolder folder;
  folder.Write("model.safetensors",
               SafetensorsOf({{"v", "F32", {2}, F32Bytes({3, 4})}}));
  const auto source = Open(folder);
  const TensorSpec vector = {"v", 2, 1, /*is_vector=*/true};
  ASSERT_TRUE(source->Prepare({.tensors = {vector}, .probe = "v"}).ok());
  const auto loaded = source->Read({vector, 0, 2, 0, 1}, DType::kF32);
  ASSERT_TRUE(loaded.ok());
  EXPECT_THAT(Values(loaded->matrix), ElementsAre(3, 4));
  EXPECT_EQ(loaded->matrix.row_stride, 1);
}

TEST(CheckpointSourceTest, FindsTensorsUnderAnyOfTheirPrefixes) {
  for (const char* prefix : {"model.decoder.", "decoder.", ""}) {
    ModelFolder folder;
    folder.Write("model.safetensors",
                 SafetensorsOf(
                     {{absl::StrCat(prefix, "w"), "F32", {1, 1}, F32Bytes({4})},
                      {"head", "F32", {1, 1}, F32Bytes({5})}}));
    const auto source = Open(folder);
    const TensorSpec inner = Matrix("model.decoder.w", 1, 1);
    const TensorSpec head = Matrix("head", 1, 1);
    const absl::Status status =
        source->Prepare({.tensors = {inner, head},
                         .prefixes = {"model.decoder.", "decoder.", ""},
                         .probe = "w"});
    ASSERT_TRUE(status.ok()) << prefix << ": " << status;
    const auto loaded = source->Read({inner, 0, 1, 0, 1}, DType::kF32);
    ASSERT_TRUE(loaded.ok());
    EXPECT_THAT(Values(loaded->matrix), ElementsAre(4));
  }
}

TEST(CheckpointSourceTest, IgnoresOnlyTheUnusedTensorsThatItKnows) {
  ModelFolder folder;
  folder.Write("model.safetensors",
               SafetensorsOf({{"w", "F32", {1, 1}, F32Bytes({1})},
                              {"a.inv_freq", "F32", {1}, F32Bytes({1})}}));
  TensorSet expected = {.tensors = {Matrix("w", 1, 1)}, .probe = "w"};
  EXPECT_THAT(Open(folder)->Prepare(expected).message(),
              HasSubstr("a.inv_freq"));
  expected.unused_suffixes = {".inv_freq"};
  EXPECT_TRUE(Open(folder)->Prepare(expected).ok());
}

TEST(CheckpointSourceTest, AFileTruncatedMeanwhileIsNamedWithItsTensor) {
  ModelFolder folder;
  const std::vector<float> zeros(64 << 10);
  folder.Write("model.safetensors",
               SafetensorsOf({{"w", "F32", {64, 1024}, F32Bytes(zeros)}}));
  const auto source = Open(folder);
  const TensorSpec spec = Matrix("w", 64, 1024);
  ASSERT_TRUE(source->Prepare({.tensors = {spec}, .probe = "w"}).ok());
  std::filesystem::resize_file(folder.PathOf("model.safetensors"), 4096);
  const WeightSlice slice = {spec, 0, 64, 0, 1024};
  auto loaded = source->Read(slice, DType::kF32);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  Values(loaded->matrix);  // as a backend would, packing
  const absl::Status status = source->Release(slice, *std::move(loaded));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("model.safetensors: tensor \"w\""));
}

}  // namespace
}  // namespace quire
