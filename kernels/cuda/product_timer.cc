// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/product_timer.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/elementwise.h"

namespace quire {
namespace {

constexpr int64_t kFlushBytes = 128 << 20;
// What takes so much longer than the fastest at first is hopeless.
constexpr float kHopeless = 1.2f;
// Short products are run more often: what disturbs them weighs more.
constexpr float kTimedMs = 4.0f;
constexpr float kLeastRounds = 5, kMostRounds = 15;

float MedianOf(std::vector<float> times) {
  const auto middle = times.begin() + times.size() / 2;
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

}  // namespace

struct ProductTimer::Entrant {
  size_t index = 0;          // of its trial
  std::vector<float> times;  // in milliseconds, divided by its allowance
};

bool ProductTimer::IsCapturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream, &status) == cudaSuccess &&
         status != cudaStreamCaptureStatusNone;
}

absl::StatusOr<std::unique_ptr<ProductTimer>> ProductTimer::Create(
    cudaStream_t stream) {
  auto timer = absl::WrapUnique(new ProductTimer(stream));
  auto flush = AllocateCuda(kFlushBytes + sizeof(uint32_t));
  if (flush.ok()) timer->flush_ = *std::move(flush);
  return timer;
}

ProductTimer::~ProductTimer() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

absl::Status ProductTimer::Enqueue(const Trial& trial, cudaEvent_t begin,
                                   cudaEvent_t end) {
  if (flush_ != nullptr) {
    char* const sink = flush_->as<char>() + kFlushBytes;
    LaunchReadCuda(flush_->data(), kFlushBytes,
                   reinterpret_cast<uint32_t*>(sink), stream_);
  }
  QUIRE_RETURN_IF_CUDA_ERROR(cudaEventRecord(begin, stream_), "timing");
  QUIRE_RETURN_IF_ERROR(trial.enqueue());
  return CudaStatus(cudaEventRecord(end, stream_), "timing");
}

absl::Status ProductTimer::RunInTurn(const std::vector<Trial>& trials,
                                     std::vector<Entrant>* entrants) {
  while (events_.size() < 2 * entrants->size()) {
    cudaEvent_t event = nullptr;
    QUIRE_RETURN_IF_CUDA_ERROR(cudaEventCreate(&event), "event");
    events_.push_back(event);
  }
  for (size_t i = 0; i < entrants->size(); ++i) {
    QUIRE_RETURN_IF_ERROR(Enqueue(trials[(*entrants)[i].index], events_[2 * i],
                                  events_[2 * i + 1]));
  }
  QUIRE_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), "timing");
  for (size_t i = 0; i < entrants->size(); ++i) {
    float ms = 0;
    QUIRE_RETURN_IF_CUDA_ERROR(
        cudaEventElapsedTime(&ms, events_[2 * i], events_[2 * i + 1]),
        "timing");
    Entrant& entrant = (*entrants)[i];
    entrant.times.push_back(ms / trials[entrant.index].allowance);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ProductTimer::Entrant>> ProductTimer::Shortlist(
    const std::vector<Trial>& trials) {
  std::vector<Entrant> entrants;
  float least = std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < trials.size(); ++i) {
    std::vector<Entrant> alone(1);
    alone.front().index = i;
    absl::Status status = trials[i].enqueue();
    if (status.ok()) status = RunInTurn(trials, &alone);
    if (absl::IsUnimplemented(status)) continue;
    QUIRE_RETURN_IF_ERROR(status);
    least = std::min(least, alone.front().times.front());
    entrants.push_back(std::move(alone.front()));
  }
  if (entrants.empty()) return absl::UnimplementedError("no product");
  std::erase_if(entrants, [&](const Entrant& entrant) {
    return entrant.times.front() > least * kHopeless;
  });
  return entrants;
}

absl::StatusOr<size_t> ProductTimer::FastestOf(
    const std::vector<Trial>& trials) {
  QUIRE_ASSIGN_OR_RETURN(std::vector<Entrant> entrants, Shortlist(trials));
  if (entrants.size() == 1) return entrants.front().index;
  const float rounds =
      std::clamp(kTimedMs / entrants.front().times.front(), kLeastRounds,
                 kMostRounds);
  for (Entrant& entrant : entrants) entrant.times.clear();
  for (int round = 0; round < rounds; ++round) {
    QUIRE_RETURN_IF_ERROR(RunInTurn(trials, &entrants));
  }
  const auto fastest = std::min_element(
      entrants.begin(), entrants.end(), [](const auto& a, const auto& b) {
        return MedianOf(a.times) < MedianOf(b.times);
      });
  return fastest->index;
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
