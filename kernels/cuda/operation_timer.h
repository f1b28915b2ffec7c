// SPDX-License-Identifier: Apache-2.0
//
// How long operations take on the device, by name.
#ifndef KERNELS_CUDA_OPERATION_TIMER_H_
#define KERNELS_CUDA_OPERATION_TIMER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cuda_runtime_api.h"
#include "kernels/backend.h"

namespace quire {

// Events around every operation of one stream. The first operation after the
// device was idle waits behind a delay, so that the host is ahead of the device
// and launching is in nobody's time. Thread-compatible.
class OperationTimer {
 public:
  explicit OperationTimer(cudaStream_t stream);
  ~OperationTimer();
  OperationTimer(const OperationTimer&) = delete;
  OperationTimer& operator=(const OperationTimer&) = delete;

  void Begin(const std::string& name);
  void End();
  // REQUIRES: the stream was synchronized with.
  void Collect();
  // What was collected since the last call, the longest first.
  std::vector<OperationTime> Take();

 private:
  struct Span {
    std::string name;
    cudaEvent_t begin;
    cudaEvent_t end;
  };

  const cudaStream_t stream_;
  std::vector<Span> spans_;  // their events are made once and used again
  size_t num_open_ = 0;      // spans since Collect()
  std::map<std::string, OperationTime> times_;
};

// The name that an operation of these sizes is timed under; empty without a
// timer, when nobody reads it.
std::string TimedName(const OperationTimer* timer, const char* operation,
                      int64_t n, int64_t k);

}  // namespace quire

#endif  // KERNELS_CUDA_OPERATION_TIMER_H_
