// SPDX-License-Identifier: Apache-2.0
//
// One safetensors file, mapped and checked whole before any tensor is used.
#ifndef WORKER_WEIGHTS_SAFETENSORS_H_
#define WORKER_WEIGHTS_SAFETENSORS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/weights/mapped_file.h"
#include "worker/weights/safetensors_header.h"

namespace quire {

// Immutable; thread-safe.
class SafetensorsFile {
 public:
  // InvalidArgument if the file breaks any rule of the format; the message
  // names the file, and the tensor where there is one.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(
      const std::string& path);

  // By ascending offset.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }

  // First byte of a tensor of this file, possibly unaligned. Lives as long as
  // the file; see MappedFile about files that shrink meanwhile.
  const char* data(const StoredTensor& tensor) const {
    return file_->data() + data_offset_ + tensor.begin;
  }

  // Bytes of the file before data(tensor).
  int64_t file_offset(const StoredTensor& tensor) const {
    return data_offset_ + tensor.begin;
  }

  const MappedFile& file() const { return *file_; }

 private:
  SafetensorsFile(std::unique_ptr<MappedFile> file, int64_t data_offset,
                  std::vector<StoredTensor> tensors);

  std::unique_ptr<MappedFile> file_;
  int64_t data_offset_;  // bytes
  std::vector<StoredTensor> tensors_;
};

}  // namespace quire

#endif  // WORKER_WEIGHTS_SAFETENSORS_H_
