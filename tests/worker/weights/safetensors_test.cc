// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/safetensors.h"

#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/weights/model_folder.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

constexpr char kHeader[] =
    R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

absl::Status OpenError(const ModelFolder& folder) {
  return SafetensorsFile::Open(folder.PathOf("m.safetensors")).status();
}

TEST(SafetensorsTest, ReadsATensorWhereItLies) {
  ModelFolder folder;
  folder.Write("m.safetensors",
               SafetensorsOf({{"a", "F32", {2}, F32Bytes({1.5f, -2})},
                              {"b", "F32", {1, 1}, F32Bytes({7})}}));
  const auto file = SafetensorsFile::Open(folder.PathOf("m.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ((*file)->tensors().size(), 2);
  float value;
  std::memcpy(&value, (*file)->data((*file)->tensors()[1]), sizeof(value));
  EXPECT_EQ(value, 7);
  EXPECT_EQ((*file)->file_offset((*file)->tensors()[1]),
            (*file)->file().bytes() - 4);
}

TEST(SafetensorsTest, NamesAMissingFile) {
  ModelFolder folder;
  EXPECT_EQ(OpenError(folder).code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("m.safetensors"));
}

TEST(SafetensorsTest, RefusesASymbolicLink) {
  ModelFolder folder;
  folder.Write("real", SafetensorsBytes(kHeader, std::string(8, 'x')));
  std::filesystem::create_symlink(folder.PathOf("real"),
                                  folder.PathOf("m.safetensors"));
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("symbolic link"));
}

TEST(SafetensorsTest, RefusesWhatIsNotAFile) {
  ModelFolder folder;
  std::filesystem::create_directory(folder.PathOf("m.safetensors"));
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("not a regular file"));
  std::filesystem::remove(folder.PathOf("m.safetensors"));
  ASSERT_EQ(mkfifo(folder.PathOf("m.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("not a regular file"));
}

TEST(SafetensorsTest, RefusesAFileWithoutRoomForAHeader) {
  ModelFolder folder;
  for (const size_t size : {0, 1, 7}) {
    folder.Write("m.safetensors", std::string(size, '\0'));
    EXPECT_THAT(OpenError(folder).message(), HasSubstr("too few for a header"));
  }
}

TEST(SafetensorsTest, RefusesAnEmptyHeader) {
  ModelFolder folder;
  folder.Write("m.safetensors", SafetensorsBytes("", ""));
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("does not begin with {"));
}

TEST(SafetensorsTest, RefusesAHeaderThatBeginsOtherwise) {
  ModelFolder folder;
  folder.Write("m.safetensors", SafetensorsBytes(" {}", ""));
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("does not begin with {"));
}

TEST(SafetensorsTest, RefusesAHeaderLongerThanTheFile) {
  ModelFolder folder;
  std::string bytes = SafetensorsBytes(kHeader, std::string(8, 'x'));
  for (const unsigned char length : {200, 255}) {
    bytes[0] = static_cast<char>(length);
    folder.Write("m.safetensors", bytes);
    EXPECT_THAT(OpenError(folder).message(),
                HasSubstr("says that its header has"));
  }
  std::memset(bytes.data(), 0xff, 8);  // 2^64 - 1
  folder.Write("m.safetensors", bytes);
  EXPECT_THAT(OpenError(folder).message(),
              HasSubstr("has 18446744073709551615 bytes"));
}

TEST(SafetensorsTest, RefusesAHeaderBeyondTheFormatsLimit) {
  ModelFolder folder;
  // A sparse file: 100 MB and one byte of header, most of it never written.
  std::string bytes = SafetensorsBytes("{", "");
  const uint64_t length = 100'000'001;
  std::memcpy(bytes.data(), &length, sizeof(length));
  folder.Write("m.safetensors", bytes);
  std::filesystem::resize_file(folder.PathOf("m.safetensors"), length + 8);
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("of at most 100000000"));
}

TEST(SafetensorsTest, NamesFileAndTensorOfTruncatedData) {
  ModelFolder folder;
  const std::string bytes = SafetensorsBytes(kHeader, std::string(8, 'x'));
  for (size_t lost = 1; lost <= 8; ++lost) {
    folder.Write("m.safetensors", bytes.substr(0, bytes.size() - lost));
    const absl::Status status = OpenError(folder);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("m.safetensors: tensor \"w\""));
    EXPECT_THAT(status.message(), HasSubstr("truncated"));
  }
}

TEST(SafetensorsTest, RefusesEveryPrefixOfAFile) {
  ModelFolder folder;
  const std::string bytes = SafetensorsBytes(kHeader, std::string(8, 'x'));
  for (size_t size = 0; size < bytes.size(); ++size) {
    folder.Write("m.safetensors", bytes.substr(0, size));
    EXPECT_FALSE(OpenError(folder).ok()) << size;
  }
  folder.Write("m.safetensors", bytes);
  EXPECT_TRUE(OpenError(folder).ok());
}

TEST(SafetensorsTest, RefusesBytesBehindTheLastTensor) {
  ModelFolder folder;
  folder.Write("m.safetensors", SafetensorsBytes(kHeader, std::string(9, 'x')));
  EXPECT_THAT(OpenError(folder).message(), HasSubstr("end at byte 8 of 9"));
}

}  // namespace
}  // namespace quire
