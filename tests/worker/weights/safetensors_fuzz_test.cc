// SPDX-License-Identifier: Apache-2.0
//
// Whatever bytes stand in a safetensors header, no tensor of it lies outside
// of the file, over another, or has fewer bytes than its shape. The first eight
// bytes say how many follow the header.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "worker/weights/safetensors_header.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint64_t length = 0;
  if (size < sizeof(length)) return 0;
  std::memcpy(&length, data, sizeof(length));
  const int64_t data_bytes = static_cast<int64_t>(length >> 1);
  const auto tensors = quire::ParseSafetensorsHeader(
      absl::string_view(reinterpret_cast<const char*>(data) + sizeof(length),
                        size - sizeof(length)),
      data_bytes);
  if (!tensors.ok()) {
    const absl::string_view message = tensors.status().message();
    CHECK(!message.empty());
    CHECK_EQ(message.find('\n'), absl::string_view::npos) << message;
    return 0;
  }
  int64_t at = 0;
  for (const quire::StoredTensor& tensor : *tensors) {
    CHECK_EQ(tensor.begin, at) << tensor.name;
    CHECK_GE(tensor.end, tensor.begin);
    // The product cannot overflow: it is at most the file's bytes, or 0.
    bool is_empty = false;
    for (int64_t dim : tensor.shape) {
      CHECK_GE(dim, 0);
      is_empty |= dim == 0;
    }
    int64_t bytes = is_empty ? 0 : quire::SizeOf(tensor.dtype);
    if (!is_empty) {
      for (int64_t dim : tensor.shape) bytes *= dim;
    }
    CHECK_EQ(bytes, tensor.end - tensor.begin) << tensor.name;
    at = tensor.end;
  }
  CHECK_EQ(at, data_bytes);
  return 0;
}
