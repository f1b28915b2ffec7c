// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/product_timer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/elementwise.h"

namespace quire {
namespace {

constexpr int kTimings = 7;
constexpr int64_t kFlushBytes = 128 << 20;

}  // namespace

bool ProductTimer::IsCapturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream, &status) == cudaSuccess &&
         status != cudaStreamCaptureStatusNone;
}

absl::StatusOr<std::unique_ptr<ProductTimer>> ProductTimer::Create(
    cudaStream_t stream) {
  auto timer = absl::WrapUnique(new ProductTimer(stream));
  QUIRE_RETURN_IF_CUDA_ERROR(cudaEventCreate(&timer->begin_), "event");
  QUIRE_RETURN_IF_CUDA_ERROR(cudaEventCreate(&timer->end_), "event");
  auto flush = AllocateCuda(kFlushBytes + sizeof(uint32_t));
  if (flush.ok()) timer->flush_ = *std::move(flush);
  return timer;
}

ProductTimer::~ProductTimer() {
  for (cudaEvent_t event : {begin_, end_}) {
    if (event != nullptr) cudaEventDestroy(event);
  }
}

absl::StatusOr<float> ProductTimer::Time(
    const std::function<absl::Status()>& enqueue, float hopeless_ms) {
  std::vector<float> times;
  for (int run = 0; run <= kTimings; ++run) {
    if (flush_ != nullptr) {
      char* const sink = flush_->as<char>() + kFlushBytes;
      LaunchReadCuda(flush_->data(), kFlushBytes,
                     reinterpret_cast<uint32_t*>(sink), stream_);
    }
    cudaEventRecord(begin_, stream_);
    QUIRE_RETURN_IF_ERROR(enqueue());
    cudaEventRecord(end_, stream_);
    QUIRE_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(end_), "timing");
    float ms = 0;
    QUIRE_RETURN_IF_CUDA_ERROR(cudaEventElapsedTime(&ms, begin_, end_),
                               "timing");
    if (run > 0) times.push_back(ms);
    if (run == 1 && ms > hopeless_ms) break;
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

absl::StatusOr<PlainGemmParams> TrialOf(
    const PlainGemmParams& params, std::unique_ptr<DeviceBuffer>* elsewhere) {
  PlainGemmParams trial = params;
  trial.peers = nullptr;
  if (params.adds) {
    QUIRE_ASSIGN_OR_RETURN(*elsewhere, AllocateCuda(params.m * params.y_stride *
                                                    SizeOf(params.y_dtype)));
    trial.y = (*elsewhere)->data();
  }
  return trial;
}

}  // namespace quire
