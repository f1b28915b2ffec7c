// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tensor_maps.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/cuda_status.h"

namespace quire {

absl::Status TensorMaps::Init() {
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode_,
                                       12000, cudaEnableDefault, &found),
      "the driver");
  if (found != cudaDriverEntryPointSuccess) {
    return absl::UnavailableError(
        "the driver has no cuTensorMapEncodeTiled; 525 or later is needed");
  }
  return absl::OkStatus();
}

absl::StatusOr<const CUtensorMap*> TensorMaps::Of(const Matrix& matrix) {
  const Key key = {matrix.data,   matrix.rows,     matrix.cols,
                   matrix.stride, matrix.box_rows, matrix.box_cols};
  const auto it = maps_.find(key);
  if (it != maps_.end()) return &it->second;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(matrix.cols),
                              static_cast<cuuint64_t>(matrix.rows)};
  const cuuint64_t strides[] = {// bytes
                                static_cast<cuuint64_t>(matrix.stride) * 2};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(matrix.box_cols),
                            static_cast<cuuint32_t>(matrix.box_rows)};
  const cuuint32_t steps[] = {1, 1};
  CUtensorMap map;
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(
      encode_)(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, /*rank=*/2,
               const_cast<void*>(matrix.data), sizes, strides, box, steps,
               CU_TENSOR_MAP_INTERLEAVE_NONE,
               matrix.box_cols == kBoxCols ? CU_TENSOR_MAP_SWIZZLE_128B
                                           : CU_TENSOR_MAP_SWIZZLE_64B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    return absl::InternalError(
        absl::StrCat("cuTensorMapEncodeTiled of ", matrix.rows, "x",
                     matrix.cols, ": error ", static_cast<int>(result)));
  }
  return &maps_.emplace(key, map).first->second;
}

}  // namespace quire
