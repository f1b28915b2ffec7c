// SPDX-License-Identifier: Apache-2.0
//
// The JSON header of a safetensors file
// (https://huggingface.co/docs/safetensors): which tensors, where.
#ifndef WORKER_WEIGHTS_SAFETENSORS_HEADER_H_
#define WORKER_WEIGHTS_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace quire {

// Element types that the format defines. Models use the three floating ones;
// the others are measured, so that a file with an odd tensor still opens.
enum class StoredDType {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBf16,
  kI32,
  kU32,
  kF32,
  kF64,
  kI64,
  kU64,
};

int64_t SizeOf(StoredDType dtype);    // bytes of an element
const char* Name(StoredDType dtype);  // "F32"

struct StoredTensor {
  std::string name;
  StoredDType dtype = StoredDType::kF32;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // bytes from the start of the data, which follows the
  int64_t end = 0;    // header; [begin, end)
};

// Parses `json` and holds it against `data_bytes`, the number of bytes behind
// the header: the tensors must cover them exactly, without gap or overlap.
// Returns the tensors by ascending offset. InvalidArgument names the tensor.
absl::StatusOr<std::vector<StoredTensor>> ParseSafetensorsHeader(
    absl::string_view json, int64_t data_bytes);

}  // namespace quire

#endif  // WORKER_WEIGHTS_SAFETENSORS_HEADER_H_
