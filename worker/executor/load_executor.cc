// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/load_executor.h"

#include <sched.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/model_config.h"
#include "common/sparse_attention.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/device_wait.h"
#include "worker/collective/machine.h"
#include "worker/collective/registry.h"
#include "worker/executor/lost_device.h"
#include "worker/model/registry.h"
#include "worker/weights/open_weights.h"
#include "worker/weights/weight_source.h"

namespace quire {
namespace {

absl::Status CheckSpec(const LoadSpec& spec) {
  const struct {
    const char* name;
    int64_t value;
  } sizes[] = {
      {"world_size", spec.world_size},
      {"max_num_seqs", spec.limits.max_num_seqs},
      {"max_num_batched_tokens", spec.limits.max_num_batched_tokens},
      {"max_model_len", spec.limits.max_model_len},
      {"block_size", spec.block_size},
  };
  for (const auto& size : sizes) {
    if (size.value > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(size.name, " is ", size.value, "; it must be positive"));
  }
  if (spec.virtual_page_bytes < 0 || spec.virtual_page_bytes % 64 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("virtual_page_bytes is ", spec.virtual_page_bytes,
                     "; it must be a multiple of 64"));
  }
  if (spec.limits.sparse_pages != 0 &&
      spec.limits.sparse_pages < kMinSparsePages) {
    return absl::InvalidArgumentError(
        absl::StrCat(SparseAttentionFlag(spec.limits.sparse_pages),
                     ": a decode reads at least ", kMinSparsePages, " pages"));
  }
  if (spec.limits.sparse_pages > 0 && spec.virtual_page_bytes > 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        SparseAttentionFlag(spec.limits.sparse_pages),
        " chooses among KV blocks, and rows of virtual memory have none"));
  }
  if (spec.rank >= 0 && spec.rank < spec.world_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("rank ", spec.rank, " of a group of ", spec.world_size));
}

// Sparse layers choose among all pages, and windows leave some behind.
absl::Status CheckWindows(const ModelConfig& config, const StepLimits& limits) {
  if (limits.sparse_pages == 0) return absl::OkStatus();
  for (int32_t window : config.layer_windows) {
    if (window == 0 || window >= limits.max_model_len) continue;
    return absl::UnimplementedError(absl::StrCat(
        SparseAttentionFlag(limits.sparse_pages),
        " does not work with the model's sliding window of ", window,
        " tokens: leave the flag out, or want --max_model_len=", window));
  }
  return absl::OkStatus();
}

// What "auto" computes in is what is stored, but for float16, which no backend
// computes in: float32 holds all its values.
absl::StatusOr<DType> DTypeOf(const std::string& dtype,
                              const ModelConfig& config) {
  const std::string& name = dtype == "auto" ? config.dtype : dtype;
  if (name == "bfloat16") return DType::kBf16;
  if (name == "float32") return DType::kF32;
  if (name == "float16" && dtype == "auto") return DType::kF32;
  return absl::InvalidArgumentError(
      absl::StrCat("dtype \"", name,
                   "\" is not one of auto, float32, "
                   "bfloat16"));
}

int32_t NumCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) return 1;
  return std::max(1, CPU_COUNT(&cores));
}

constexpr absl::string_view kCuda = "cuda";

bool IsCuda(const DeviceOptions& options) {
  return DeviceKind(options) == kCuda;
}

// N of "cuda:N"; nothing if it is not named. REQUIRES: the device was checked.
std::optional<int32_t> NamedGpu(const DeviceOptions& options) {
  absl::string_view rest = options.device;
  int32_t gpu;
  if (!absl::ConsumePrefix(&rest, kCuda) || !absl::ConsumePrefix(&rest, ":") ||
      !absl::SimpleAtoi(rest, &gpu)) {
    return std::nullopt;
  }
  return gpu;
}

// Whether a step needs nothing of the host but its input.
bool RunsAhead(const DeviceOptions& device, int32_t world_size) {
  return !IsCuda(device) || world_size == 1 || device.record_groups;
}

absl::StatusOr<std::unique_ptr<Backend>> CreateBackend(
    const DeviceOptions& device, DType dtype, int32_t gpu, int32_t world_size,
    int32_t num_local_ranks) {
  if (IsCuda(device)) {
    // Rounded as they are stored, partial sums are half the bytes between ranks
    // and come from the library's faster products. Not where the results of
    // groups of any size are to be alike.
    const bool is_rounded =
        !device.deterministic && RunsAhead(device, world_size);
    QUIRE_ASSIGN_OR_RETURN(const DeviceWait wait,
                           ParseDeviceWait(device.device_wait));
    return CreateCudaBackend({.dtype = dtype,
                              .partial_dtype = is_rounded ? dtype : DType::kF32,
                              .device = gpu,
                              .is_deterministic = device.deterministic,
                              .gemm_cache_path = device.gemm_cache,
                              .has_stream_gemm = device.stream_gemm,
                              .has_tile_gemm = device.tile_gemm,
                              .times_operations = device.times_operations,
                              .measures_idleness = device.measures_idleness,
                              .wait = wait});
  }
  CpuBackendOptions options;
  options.dtype = dtype;
  options.num_threads = device.num_threads > 0
                            ? device.num_threads
                            : std::max(1, NumCores() / num_local_ranks);
  return CpuBackend::Create(options);
}

absl::StatusOr<std::unique_ptr<Collective>> JoinGroup(
    const DeviceOptions& device, const LoadSpec& spec, int32_t gpu,
    int32_t num_local_ranks, Backend* backend, KeyBoard* board) {
  CollectiveOptions options;
  if (IsCuda(device)) options.gpu = gpu;
  options.stream = backend->native_stream();
  options.is_deterministic = device.deterministic;
  options.group_end = device.group_end;
  options.rank = spec.rank;
  options.world_size = spec.world_size;
  options.num_local_ranks = num_local_ranks;
  options.host = device.host;
  options.connect_timeout = device.connect_timeout;
  options.operation_timeout = device.operation_timeout;
  return CreateCollective(device.collective, options, board);
}

// Of this rank; the log says how fast its weights came.
absl::Status LoadModel(const ModelConfig& config, const StepLimits& limits,
                       WeightSource& weights, const Clock* clock,
                       const LoadObserver& observer, ExecutorParts* parts) {
  const int64_t element_bytes = SizeOf(parts->backend->dtype());
  const auto on_progress = [&](int64_t elements_done, int64_t elements_total) {
    observer("weights", elements_done * element_bytes,
             elements_total * element_bytes);
  };
  const absl::Time begin = clock->Now();
  QUIRE_ASSIGN_OR_RETURN(parts->model,
                         CreateModel(config, limits, weights, *parts->backend,
                                     *parts->collective, on_progress));
  QUIRE_RETURN_IF_ERROR(parts->backend->Synchronize());
  const double seconds = absl::ToDoubleSeconds(clock->Now() - begin);
  const auto bytes = static_cast<double>(parts->model->weight_bytes());
  LOG(INFO) << absl::StrFormat("weights: %.3f GB in %.2f s, %.2f GB/s",
                               bytes * 1e-9, seconds,
                               bytes * 1e-9 / std::max(seconds, 1e-9));
  return absl::OkStatus();
}

// What the device takes part in. REQUIRES: parts->backend is there.
absl::Status FillGroupAndModel(const DeviceOptions& device,
                               const LoadSpec& spec, const ModelConfig& config,
                               WeightSource& weights, int32_t gpu,
                               int32_t num_local_ranks, KeyBoard* board,
                               const Clock* clock, const LoadObserver& observer,
                               ExecutorParts* parts) {
  QUIRE_ASSIGN_OR_RETURN(parts->collective,
                         JoinGroup(device, spec, gpu, num_local_ranks,
                                   parts->backend.get(), board));
  return LoadModel(config, spec.limits, weights, clock, observer, parts);
}

}  // namespace

std::string DeviceKind(const DeviceOptions& options) {
  return options.device.substr(0, options.device.find(':'));
}

absl::Status CheckDeviceOptions(const DeviceOptions& options) {
  const std::optional<int32_t> gpu = NamedGpu(options);
  const bool is_known = options.device == "cpu" ||
                        (HasCudaBackend() && (options.device == kCuda ||
                                              (gpu.has_value() && *gpu >= 0)));
  if (!is_known) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--device=", options.device, ": this build knows the device cpu",
        HasCudaBackend() ? ", cuda and cuda:N"
                         : "; one built with --config=cuda, cuda too"));
  }
  if (options.num_threads < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--num_threads=", options.num_threads, " is negative"));
  }
  QUIRE_RETURN_IF_ERROR(ParseDeviceWait(options.device_wait).status());
  if ((options.collective == "nccl" || options.collective == "peer") &&
      !IsCuda(options)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--collective=", options.collective,
                     " joins GPUs; it needs --device=cuda"));
  }
  const absl::Status name = CheckCollectiveName(options.collective);
  if (name.ok()) return name;
  return absl::InvalidArgumentError(
      absl::StrCat("--collective: ", name.message()));
}

absl::StatusOr<std::unique_ptr<Executor>> LoadExecutor(
    const DeviceOptions& device, const LoadSpec& spec, KeyBoard* board,
    const Clock* clock, const LoadObserver& observer) {
  QUIRE_RETURN_IF_ERROR(CheckSpec(spec));
  if (device.device != "cpu" && spec.limits.sparse_pages > 0) {
    return absl::UnimplementedError(absl::StrCat(
        SparseAttentionFlag(spec.limits.sparse_pages),
        " works on --device=cpu only; this worker has --device=", device.device,
        ": leave the flag out"));
  }
  // What is wrong with the model shows on every rank alike, before any waits
  // for another.
  QUIRE_ASSIGN_OR_RETURN(const ModelConfig config,
                         ModelConfig::FromFolder(spec.model_path));
  QUIRE_RETURN_IF_ERROR(config.CheckTensorParallel(spec.world_size));
  QUIRE_RETURN_IF_ERROR(CheckWindows(config, spec.limits));
  QUIRE_ASSIGN_OR_RETURN(const DType dtype, DTypeOf(spec.dtype, config));
  QUIRE_ASSIGN_OR_RETURN(
      const auto weights,
      OpenWeights({spec.model_path, spec.load_format, spec.seed}));

  observer("collective", 0, 0);
  ExecutorParts parts;
  QUIRE_ASSIGN_OR_RETURN(const LocalSeat seat,
                         FindLocalSeat(board, spec.rank, spec.world_size,
                                       ThisMachine(), device.connect_timeout));
  // A GPU is one rank's alone; the host's memory is shared.
  parts.num_local_ranks = IsCuda(device) ? 1 : seat.num_ranks;
  const int32_t gpu = NamedGpu(device).value_or(seat.index);
  QUIRE_ASSIGN_OR_RETURN(
      parts.backend,
      CreateBackend(device, dtype, gpu, spec.world_size, seat.num_ranks));
  QUIRE_RETURN_IF_ERROR(MarkIfLost(
      FillGroupAndModel(device, spec, config, *weights, gpu, seat.num_ranks,
                        board, clock, observer, &parts),
      parts.backend.get()));
  parts.limits = spec.limits;
  parts.block_size = spec.block_size;
  parts.virtual_page_bytes = spec.virtual_page_bytes;
  parts.vocab_size = config.vocab_size;
  parts.device_sampling = device.device_sampling;
  const bool runs_ahead = RunsAhead(device, spec.world_size);
  parts.records_decodes = IsCuda(device) && runs_ahead &&
                          !device.enforce_eager && !device.times_operations;
  parts.chooses_in_group = runs_ahead;
  return Executor::Create(std::move(parts), clock);
}

}  // namespace quire
