// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/operation_timer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "kernels/cuda/elementwise.h"

namespace quire {
namespace {

// Longer than a step takes to launch.
constexpr int64_t kDelayNs = 8'000'000;

}  // namespace

OperationTimer::OperationTimer(cudaStream_t stream) : stream_(stream) {}

OperationTimer::~OperationTimer() {
  for (const Span& span : spans_) {
    cudaEventDestroy(span.begin);
    cudaEventDestroy(span.end);
  }
}

void OperationTimer::Begin(const std::string& name) {
  if (num_open_ == 0) LaunchDelayCuda(kDelayNs, stream_);
  if (num_open_ == spans_.size()) {
    Span span = {};
    CHECK_EQ(cudaEventCreate(&span.begin), cudaSuccess);
    CHECK_EQ(cudaEventCreate(&span.end), cudaSuccess);
    spans_.push_back(span);
  }
  Span& span = spans_[num_open_++];
  span.name = name;
  cudaEventRecord(span.begin, stream_);
}

void OperationTimer::End() {
  cudaEventRecord(spans_[num_open_ - 1].end, stream_);
}

void OperationTimer::Collect() {
  for (size_t i = 0; i < num_open_; ++i) {
    const Span& span = spans_[i];
    float ms = 0;
    if (cudaEventElapsedTime(&ms, span.begin, span.end) != cudaSuccess) {
      continue;
    }
    OperationTime& time = times_[span.name];
    time.name = span.name;
    time.seconds += ms / 1e3;
    ++time.count;
  }
  num_open_ = 0;
}

std::vector<OperationTime> OperationTimer::Take() {
  std::vector<OperationTime> taken;
  for (auto& [name, time] : times_) taken.push_back(time);
  times_.clear();
  std::sort(taken.begin(), taken.end(),
            [](const OperationTime& a, const OperationTime& b) {
              return a.seconds > b.seconds;
            });
  return taken;
}

std::string TimedName(const OperationTimer* timer, const char* operation,
                      int64_t n, int64_t k) {
  return timer == nullptr ? std::string()
                          : absl::StrCat(operation, " ", n, "x", k);
}

}  // namespace quire
