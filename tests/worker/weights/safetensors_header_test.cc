// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/safetensors_header.h"

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// "w" [2, 3] F32 at 0, then "b" [3] BF16 at 24: 30 bytes of data.
constexpr char kGood[] =
    R"({"__metadata__":{"format":"pt"},)"
    R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[24,30]}})";
constexpr int64_t kGoodBytes = 30;

TEST(SafetensorsHeaderTest, ReadsTensorsInOrderOfTheirOffsets) {
  const auto tensors = ParseSafetensorsHeader(
      R"({"b":{"shape":[3],"data_offsets":[24,30],"dtype":"BF16"},)"
      R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}   )",
      kGoodBytes);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 2);
  EXPECT_EQ((*tensors)[0].name, "w");
  EXPECT_EQ((*tensors)[0].dtype, StoredDType::kF32);
  EXPECT_THAT((*tensors)[0].shape, ElementsAre(2, 3));
  EXPECT_EQ((*tensors)[0].begin, 0);
  EXPECT_EQ((*tensors)[0].end, 24);
  EXPECT_EQ((*tensors)[1].name, "b");
  EXPECT_EQ((*tensors)[1].dtype, StoredDType::kBf16);
}

TEST(SafetensorsHeaderTest, TakesEmptyTensorsAndScalars) {
  const auto tensors = ParseSafetensorsHeader(
      R"({"none":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},)"
      R"("one":{"dtype":"F64","shape":[],"data_offsets":[0,8]},)"
      R"("end":{"dtype":"U8","shape":[0],"data_offsets":[8,8]}})",
      8);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_EQ(tensors->size(), 3);
}

TEST(SafetensorsHeaderTest, SaysWhatIsWrongInOneShortLine) {
  const auto tensors = ParseSafetensorsHeader(
      absl::StrCat(R"({"a\nb)", std::string(10'000, 'x'), R"(":7})"), 0);
  ASSERT_FALSE(tensors.ok());
  EXPECT_THAT(std::string(tensors.status().message()), HasSubstr("\"a?bxxx"));
  EXPECT_LT(tensors.status().message().size(), 600);
}

TEST(SafetensorsHeaderTest, TakesAFileWithoutTensors) {
  EXPECT_TRUE(ParseSafetensorsHeader("{}", 0).ok());
}

TEST(SafetensorsHeaderTest, KnowsTheSizeOfEveryType) {
  EXPECT_EQ(SizeOf(StoredDType::kBool), 1);
  EXPECT_EQ(SizeOf(StoredDType::kF8E4M3), 1);
  EXPECT_EQ(SizeOf(StoredDType::kF16), 2);
  EXPECT_EQ(SizeOf(StoredDType::kI32), 4);
  EXPECT_EQ(SizeOf(StoredDType::kU64), 8);
  EXPECT_STREQ(Name(StoredDType::kU64), "U64");
  EXPECT_STREQ(Name(StoredDType::kF8E5M2), "F8_E5M2");
}

// One rule broken: `from` of the good header replaced by `to`.
struct Broken {
  const char* rule;
  const char* from;
  const char* to;
  const char* message;
};

class BrokenHeaderTest : public testing::TestWithParam<Broken> {};

TEST_P(BrokenHeaderTest, IsRefusedWithTheReason) {
  const Broken& broken = GetParam();
  const std::string header =
      absl::StrReplaceAll(kGood, {{broken.from, broken.to}});
  ASSERT_NE(header, kGood);
  const absl::Status status =
      ParseSafetensorsHeader(header, kGoodBytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(broken.message));
}

INSTANTIATE_TEST_SUITE_P(
    EachRule, BrokenHeaderTest,
    testing::Values(
        Broken{"UnknownDtype", "BF16", "BF17",
               "tensor \"b\": unknown dtype \"BF17\"; only F32, BF16 and F16 "
               "are supported, not quantized checkpoints: take the model's "
               "unquantized release"},
        Broken{"LowerCaseDtype", "F32", "f32", "unknown dtype \"f32\""},
        Broken{"DtypeNotAString", "\"F32\"", "32",
               "tensor \"w\": unexpected a number"},
        Broken{"NegativeDim", "[2,3]", "[-2,3]",
               "tensor \"w\": unexpected number -2"},
        Broken{"FractionalDim", "[2,3]", "[2.0,3]",
               "tensor \"w\": unexpected number 2.0"},
        Broken{"DimAsString", "[2,3]", "[\"2\",3]",
               "tensor \"w\": unexpected a string"},
        Broken{"DimNull", "[2,3]", "[null,3]", "unexpected null"},
        Broken{"NestedShape", "[2,3]", "[[2,3]]", "unexpected an array"},
        Broken{"ShapeAsObject", "[2,3]", "{}", "unexpected an object"},
        Broken{"ShapeTooSmall", "[2,3]", "[2,2]",
               "tensor \"w\": data_offsets [0, 24) should span 16 bytes"},
        Broken{"ShapeTooLarge", "[2,3]", "[3,3]", "should span 36 bytes"},
        Broken{"ProductOverflows", "[2,3]", "[4294967296,4294967296]",
               "tensor \"w\": its shape is beyond 63 bits"},
        Broken{"ProductOverflowsBehindAZero", "[2,3]",
               "[4294967296,4294967296,0]", "beyond 63 bits"},
        Broken{"BytesOverflow", "[2,3]", "[4611686018427387904]",
               "beyond 63 bits"},
        Broken{"DimBeyond63Bits", "[2,3]", "[9223372036854775808]",
               "beyond 63 bits"},
        Broken{"DimBeyond64Bits", "[2,3]", "[18446744073709551616]",
               "unexpected number 18446744073709551616"},
        Broken{"TooManyDims", "[2,3]", "[1,1,1,1,1,1,1,2,3]",
               "more than 8 dimensions"},
        Broken{"OffsetsReversed", "[24,30]", "[30,24]",
               "tensor \"b\": data_offsets [30, 24)"},
        Broken{"OffsetNegative", "[24,30]", "[-24,30]",
               "tensor \"b\": unexpected number -24"},
        Broken{"OneOffset", "[24,30]", "[24]",
               "tensor \"b\": data_offsets has 1 numbers"},
        Broken{"ThreeOffsets", "[24,30]", "[24,30,30]", "has 3 numbers"},
        Broken{"OffsetsNotAnArray", "[24,30]", "24", "unexpected a number"},
        Broken{"Overlap", "[24,30]", "[20,26]",
               "tensor \"b\": begins at byte 20, inside of the tensor before"},
        Broken{"SameBytes", "\"shape\":[3],\"data_offsets\":[24,30]",
               "\"shape\":[12],\"data_offsets\":[0,24]",
               "inside of the tensor before"},
        Broken{"HoleInTheMiddle", "[24,30]", "[26,32]",
               "tensor \"b\": begins at byte 26, leaving a hole behind byte "
               "24"},
        Broken{"HoleAtTheStart", "[0,24]", "[2,26]",
               "tensor \"w\": begins at byte 2, leaving a hole"},
        Broken{"EndBeyondTheData", "\"shape\":[3],\"data_offsets\":[24,30]",
               "\"shape\":[4],\"data_offsets\":[24,32]",
               "tensor \"b\": ends at byte 32 of 30; the file is truncated"},
        Broken{"EndBeforeTheData", "\"shape\":[3],\"data_offsets\":[24,30]",
               "\"shape\":[2],\"data_offsets\":[24,28]",
               "end at byte 28 of 30"},
        Broken{"NameTwice", "\"b\":{", "\"w\":{",
               "the name \"w\" appears twice"},
        Broken{"NameTwiceEscaped", "\"b\":{", "\"\\u0077\":{",
               "the name \"w\" appears twice"},
        Broken{"KeyTwice", "\"dtype\":\"F32\"",
               "\"dtype\":\"F32\",\"dtype\":\"F32\"",
               "tensor \"w\": the key \"dtype\" appears twice"},
        Broken{"MetadataTwice", "\"b\":{", "\"__metadata__\":{",
               "\"__metadata__\" appears twice"},
        Broken{"MetadataKeyTwice", "\"format\":\"pt\"",
               "\"format\":\"pt\",\"format\":\"pt\"",
               "__metadata__ has the key \"format\" twice"},
        Broken{"MetadataNumber", "\"pt\"", "1",
               "__metadata__: unexpected a number"},
        Broken{"MetadataNested", "\"pt\"", "{}",
               "__metadata__: unexpected an object"},
        Broken{"MetadataNotAnObject", "{\"format\":\"pt\"}", "\"pt\"",
               "__metadata__: unexpected a string"},
        Broken{"UnknownKey", "\"dtype\":\"F32\"",
               "\"dtype\":\"F32\",\"stride\":1",
               "tensor \"w\": unknown key \"stride\""},
        Broken{"MissingDtype", "\"dtype\":\"F32\",", "",
               "tensor \"w\": needs dtype, shape and data_offsets"},
        Broken{"MissingShape", "\"shape\":[2,3],", "", "needs dtype, shape"},
        Broken{"MissingOffsets", ",\"data_offsets\":[0,24]", "",
               "needs dtype, shape"},
        Broken{"TensorNotAnObject",
               "{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}",
               "true", "tensor \"w\": unexpected a boolean"},
        Broken{"InvalidUtf8InAName", "\"w\"", "\"w\xc3\x28\"",
               "not JSON in UTF-8 at byte"},
        Broken{"OverlongUtf8", "\"w\"", "\"w\xc0\xaf\"", "not JSON in UTF-8"},
        Broken{"LoneSurrogate", "\"w\"", "\"\\ud800\"", "not JSON in UTF-8"},
        Broken{"TrailingText", "[24,30]}}", "[24,30]}}x", "not JSON"},
        Broken{"TrailingComma", "[24,30]}}", "[24,30]},}", "not JSON"},
        Broken{"Unfinished", "[24,30]}}", "[24,30]}", "not JSON"},
        Broken{"Comment", "[24,30]}}", "[24,30]}}/**/", "not JSON"}),
    [](const auto& info) { return std::string(info.param.rule); });

TEST(SafetensorsHeaderTest, RefusesOtherJson) {
  for (const char* text : {"", "[]", "1", "\"x\"", "null", "{", "[[[[[["}) {
    EXPECT_FALSE(ParseSafetensorsHeader(text, 0).ok()) << text;
  }
}

TEST(SafetensorsHeaderTest, RefusesDeepNestingWithoutRecursion) {
  const std::string deep = absl::StrCat("{\"w\":", std::string(1000000, '['));
  EXPECT_FALSE(ParseSafetensorsHeader(deep, 0).ok());
}

// Whatever bytes change, the answer is a Status, never a crash, and accepted
// tensors lie inside of the data. The sanitizers watch.
TEST(SafetensorsHeaderTest, SurvivesRandomDamage) {
  std::mt19937 random(1);
  int num_accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string header = kGood;
    const int num_changes = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < num_changes; ++i) {
      const size_t at = random() % header.size();
      switch (random() % 4) {
        case 0:
          header[at] = static_cast<char>(random());
          break;
        case 1:
          header.erase(at, 1 + random() % 8);
          break;
        case 2:
          header.insert(at, header.substr(random() % header.size(), 12));
          break;
        case 3:
          header[at] = "0123456789{}[],:\""[random() % 17];
          break;
      }
      if (header.empty()) header = "{";
    }
    const auto tensors = ParseSafetensorsHeader(header, kGoodBytes);
    if (!tensors.ok()) continue;
    ++num_accepted;
    int64_t end = 0;
    for (const StoredTensor& tensor : *tensors) {
      EXPECT_EQ(tensor.begin, end);
      end = tensor.end;
    }
    EXPECT_EQ(end, kGoodBytes);
  }
  EXPECT_GT(num_accepted, 0);  // such as a changed letter of a name
}

}  // namespace
}  // namespace quire
