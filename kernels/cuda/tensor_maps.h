// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_TENSOR_MAPS_H_
#define KERNELS_CUDA_TENSOR_MAPS_H_

#include <cstdint>
#include <map>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda.h"

namespace quire {

// How the copy engine sees matrices of bfloat16, in boxes of 64 columns with a
// swizzle of 128 bytes. Thread-compatible.
class TensorMaps {
 public:
  // Columns of a box.
  static constexpr int32_t kBoxCols = 64;

  struct Matrix {
    const void* data;  // multiple of 16 bytes
    int64_t rows;
    int64_t cols;
    int64_t stride;               // elements from row to row; a multiple of 8
    int32_t box_rows;             // at most 256
    int32_t box_cols = kBoxCols;  // or half as many, with a swizzle of 64 bytes
  };

  // Unavailable with a driver that has no such maps.
  absl::Status Init();

  // Stays valid.
  absl::StatusOr<const CUtensorMap*> Of(const Matrix& matrix);

 private:
  using Key =
      std::tuple<const void*, int64_t, int64_t, int64_t, int32_t, int32_t>;

  void* encode_ = nullptr;  // the driver's cuTensorMapEncodeTiled
  std::map<Key, CUtensorMap> maps_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_TENSOR_MAPS_H_
