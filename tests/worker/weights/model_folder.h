// SPDX-License-Identifier: Apache-2.0
//
// Writes model folders, good and crafted, for the loader's tests.
#ifndef TESTS_WORKER_WEIGHTS_MODEL_FOLDER_H_
#define TESTS_WORKER_WEIGHTS_MODEL_FOLDER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace quire {

// A fresh folder under the test's temporary directory, removed at the end.
class ModelFolder {
 public:
  ModelFolder();
  ~ModelFolder();
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string PathOf(absl::string_view name) const;
  void Write(absl::string_view name, absl::string_view bytes) const;

 private:
  std::string path_;
};

// The bytes of a safetensors file: the header's length, the header, the data.
std::string SafetensorsBytes(absl::string_view header, absl::string_view data);

// A tensor to write; `data` holds its elements as they are stored.
struct TensorToWrite {
  std::string name;
  std::string dtype;  // "F32"
  std::vector<int64_t> shape;
  std::string data;
};

// A correct file of these tensors. The header is padded with spaces to make the
// data begin at a multiple of 8 plus `misalignment`.
std::string SafetensorsOf(const std::vector<TensorToWrite>& tensors,
                          int misalignment = 0);

// Elements as little-endian bytes.
std::string F32Bytes(const std::vector<float>& values);
std::string U16Bytes(const std::vector<uint16_t>& values);

}  // namespace quire

#endif  // TESTS_WORKER_WEIGHTS_MODEL_FOLDER_H_
