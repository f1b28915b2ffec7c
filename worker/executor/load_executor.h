// SPDX-License-Identifier: Apache-2.0
//
// From what a Load call says to an executor: device, group, weights.
#ifndef WORKER_EXECUTOR_LOAD_EXECUTOR_H_
#define WORKER_EXECUTOR_LOAD_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "worker/collective/group_end.h"
#include "worker/collective/key_board.h"
#include "worker/executor/executor.h"

namespace quire {

// Of this process: its command line.
struct DeviceOptions {
  // In builds that have it also "cuda", the GPU that is this rank's by its
  // place among those on the machine, or "cuda:N", the Nth that the process
  // sees.
  std::string device = "cpu";
  int32_t num_threads = 0;  // 0: this machine's cores shared by its ranks
  // On CUDA: rows do not depend on the batch, as they never do on the CPU.
  bool deterministic = false;
  // On CUDA: where timed choices of products are kept, or empty.
  std::string gemm_cache = "";
  // On CUDA: every step is launched kernel by kernel, none is recorded.
  bool enforce_eager = false;
  // On CUDA: groups record steps and choose tokens on their devices, as a rank
  // alone always does, and run ahead.
  bool record_groups = true;
  bool stream_gemm = true;         // on CUDA; see CudaBackendOptions
  bool tile_gemm = true;           // the same
  bool times_operations = false;   // on CUDA; see Backend::TakeOperationTimes
  bool measures_idleness = false;  // on CUDA; see Executor::idle_times
  bool device_sampling = true;     // see ExecutorParts
  // On CUDA: how host threads wait for steps; see ParseDeviceWait.
  std::string device_wait = "spin";
  std::string collective = "auto";
  std::string host = "127.0.0.1";  // where the peers reach this process
  absl::Duration connect_timeout = absl::Seconds(60);
  absl::Duration operation_timeout = absl::Seconds(60);
  // Ends waits for peers on GPUs. May be null; must live longer than the
  // executor.
  const GroupEnd* group_end = nullptr;
};

// "cpu" or "cuda": what the ranks of a group have in common.
std::string DeviceKind(const DeviceOptions& options);

// Of this group: the coordinator's Load call.
struct LoadSpec {
  std::string model_path;
  std::string dtype = "auto";
  std::string load_format = "safetensors";
  uint64_t seed = 0;
  int32_t rank = 0;
  int32_t world_size = 1;
  int32_t block_size = 0;
  int64_t virtual_page_bytes = 0;  // see ExecutorParts
  StepLimits limits;
};

// `phase` is "collective" or "weights"; bytes are 0 where they mean nothing.
using LoadObserver = std::function<void(const char* phase, int64_t bytes_done,
                                        int64_t bytes_total)>;

// OK if the options name a device and a collective that exist.
absl::Status CheckDeviceOptions(const DeviceOptions& options);

// Every rank calls it, on its executor thread; `clock` must live longer.
//   InvalidArgument  a size, the dtype or the config makes no sense, or TP
//                    does not divide the model; Unimplemented: its architecture
//   NotFound         a model file is missing (which)
//   DataLoss         a shard is truncated or corrupt (the tensor's name)
//   Unavailable      a peer rank did not join
// LostDevice() says of the status whether the device was lost meanwhile.
absl::StatusOr<std::unique_ptr<Executor>> LoadExecutor(
    const DeviceOptions& device, const LoadSpec& spec, KeyBoard* board,
    const Clock* clock, const LoadObserver& observer);

}  // namespace quire

#endif  // WORKER_EXECUTOR_LOAD_EXECUTOR_H_
