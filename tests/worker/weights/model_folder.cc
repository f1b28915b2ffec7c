// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/weights/model_folder.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(T));
}

}  // namespace

ModelFolder::ModelFolder()
    : path_(absl::StrCat(testing::TempDir(), "/model_XXXXXX")) {
  PCHECK(mkdtemp(path_.data()) != nullptr) << path_;
}

ModelFolder::~ModelFolder() { std::filesystem::remove_all(path_); }

std::string ModelFolder::PathOf(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

void ModelFolder::Write(absl::string_view name, absl::string_view bytes) const {
  std::ofstream file(PathOf(name), std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  CHECK(file.flush()) << PathOf(name);
}

std::string SafetensorsBytes(absl::string_view header, absl::string_view data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes.push_back(static_cast<char>(uint64_t{header.size()} >> (8 * i)));
  }
  return absl::StrCat(bytes, header, data);
}

std::string SafetensorsOf(const std::vector<TensorToWrite>& tensors,
                          int misalignment) {
  std::vector<std::string> items = {R"("__metadata__":{"format":"pt"})"};
  std::string data;
  for (const TensorToWrite& tensor : tensors) {
    const size_t begin = data.size();
    data += tensor.data;
    items.push_back(
        absl::StrCat("\"", tensor.name, R"(":{"dtype":")", tensor.dtype,
                     R"(","shape":[)", absl::StrJoin(tensor.shape, ","),
                     R"(],"data_offsets":[)", begin, ",", data.size(), "]}"));
  }
  std::string header = absl::StrCat("{", absl::StrJoin(items, ","), "}");
  while (header.size() % 8 != misalignment) header += ' ';
  return SafetensorsBytes(header, data);
}

std::string F32Bytes(const std::vector<float>& values) {
  return BytesOf(values);
}

std::string U16Bytes(const std::vector<uint16_t>& values) {
  return BytesOf(values);
}

}  // namespace quire
