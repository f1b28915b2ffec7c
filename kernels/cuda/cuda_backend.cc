// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/copy_blocks.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_sampler.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_virtual_memory.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/lt_gemm.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/rope_kv.h"
#include "kernels/cuda/swap_blocks.h"
#include "kernels/cuda/weight_upload.h"

namespace quire {
namespace {

// Copies of host rows while weights load: enough for a PCIe link.
constexpr int kUploadThreads = 4;

// Whether the two are layers of one step, given that no array changed.
bool IsSameStep(const AttentionParams& a, const AttentionParams& b) {
  const KvLayout& x = a.cache.layout;
  const KvLayout& y = b.cache.layout;
  return a.block_tables == b.block_tables && a.seq_slots == b.seq_slots &&
         a.query_start == b.query_start && a.context_lens == b.context_lens &&
         a.max_blocks_per_seq == b.max_blocks_per_seq &&
         a.num_seqs == b.num_seqs && a.num_tokens == b.num_tokens &&
         a.num_q_heads == b.num_q_heads &&
         a.sliding_window == b.sliding_window && a.scale == b.scale &&
         a.q_stride == b.q_stride && a.cache.num_blocks == b.cache.num_blocks &&
         x.num_layers == y.num_layers && x.num_kv_heads == y.num_kv_heads &&
         x.head_dim == y.head_dim && x.block_size == y.block_size &&
         x.dtype == y.dtype && x.order == y.order &&
         x.block_padding == y.block_padding;
}

// Dense rows, as they multiply best.
class CudaWeight final : public PackedWeight {
 public:
  CudaWeight(int64_t n, int64_t k, std::unique_ptr<DeviceBuffer> rows)
      : PackedWeight(n, k, rows->bytes()), rows_(std::move(rows)) {}
  const void* data() const { return rows_->data(); }

 private:
  std::unique_ptr<DeviceBuffer> rows_;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaBackendOptions& options) : options_(options) {}
  ~CudaBackend() override;

  absl::Status Init();

  std::string name() const override { return "cuda"; }
  DType dtype() const override { return options_.dtype; }
  DType partial_dtype() const override { return options_.partial_dtype; }

  absl::StatusOr<MemoryInfo> GetMemoryInfo() override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(
      int64_t bytes) override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateHost(
      int64_t bytes) override;
  absl::StatusOr<std::unique_ptr<VirtualMemory>> ReserveVirtual(
      const VirtualMemoryOptions& options) override {
    QUIRE_RETURN_IF_ERROR(Begin());
    return CudaVirtualMemory::Reserve(options, options_.device);
  }
  absl::Status CopyToDevice(const void* host, void* device,
                            int64_t bytes) override;
  absl::Status CopyToHost(const void* device, void* host,
                          int64_t bytes) override;
  void* native_stream() override { return stream_; }
  absl::Status Synchronize() override;

  absl::StatusOr<std::unique_ptr<PackedWeight>> PackWeight(
      absl::Span<const HostMatrix> stacked) override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const HostMatrix> stacked) override;

  absl::Status Gemm(const GemmParams& params) override;
  absl::Status Embedding(const EmbeddingParams& params) override {
    return Launch("embedding", LaunchEmbeddingCuda, params, options_.dtype);
  }
  absl::Status AddRows(const AddRowsParams& params) override {
    return Launch("adding rows", LaunchAddRowsCuda, params, options_.dtype);
  }
  absl::Status GatherRows(const GatherRowsParams& params) override {
    return Launch("gathering rows", LaunchGatherRowsCuda, params,
                  options_.dtype);
  }
  absl::Status Norm(const NormParams& params) override {
    return Launch("norm", LaunchNormCuda, params, options_.dtype);
  }
  absl::Status Add(const AddParams& params) override {
    return Launch("addition", LaunchAddCuda, params, options_.dtype);
  }
  absl::Status Activation(const ActivationParams& params) override {
    return Launch("activation", LaunchActivationCuda, params, options_.dtype);
  }
  absl::Status RopeWriteKv(const RopeWriteKvParams& params) override;
  absl::Status Attention(const AttentionParams& params) override;
  absl::Status CopyBlocks(const BlockCopyParams& params) override;
  absl::Status SwapOutBlocks(const BlockCopyParams& params) override {
    return Swap(params, cudaMemcpyDeviceToHost, "swapping out");
  }
  absl::Status SwapInBlocks(const BlockCopyParams& params) override {
    return Swap(params, cudaMemcpyHostToDevice, "swapping in");
  }
  absl::Status SampleShard(const SampleShardParams& params) override;

 private:
  // Makes the device this thread's; the sticky error, if there is one.
  absl::Status Begin();
  // Remembers the first error that poisons the device.
  absl::Status Keep(absl::Status status);

  template <typename Function, typename Params, typename... Rest>
  absl::Status Launch(const char* operation, Function launch,
                      const Params& params, Rest... rest) {
    QUIRE_RETURN_IF_ERROR(Begin());
    return Keep(CudaStatus(launch(params, rest..., stream_), operation));
  }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadRows(
      absl::Span<const HostMatrix> stacked);
  absl::Status Swap(const BlockCopyParams& params, cudaMemcpyKind direction,
                    const char* operation);
  // Lets what follows on the stream wait for swaps that are on their way.
  absl::Status WaitForSwaps();

  CudaBackendOptions options_;
  absl::Status error_;
  cudaStream_t stream_ = nullptr;
  cudaStream_t swap_stream_ = nullptr;
  cudaEvent_t computed_ = nullptr, swapped_ = nullptr;
  bool is_swapping_ = false;
  int num_sms_ = 0;
  std::unique_ptr<LtGemm> gemm_;
  std::unique_ptr<CudaSampler> sampler_;
  std::unique_ptr<WeightUpload> upload_;
  std::unique_ptr<DeviceBuffer> attention_workspace_;
  // The step that the workspace holds a plan of: until something is copied to
  // the device, its arrays hold what they held.
  bool has_plan_ = false;
  AttentionParams planned_ = {};
};

CudaBackend::~CudaBackend() {
  cudaSetDevice(options_.device);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  if (swap_stream_ != nullptr) cudaStreamSynchronize(swap_stream_);
  upload_.reset();
  sampler_.reset();
  gemm_.reset();
  attention_workspace_.reset();
  if (computed_ != nullptr) cudaEventDestroy(computed_);
  if (swapped_ != nullptr) cudaEventDestroy(swapped_);
  if (swap_stream_ != nullptr) cudaStreamDestroy(swap_stream_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::Status CudaBackend::Init() {
  int num_devices = 0;
  QUIRE_RETURN_IF_CUDA_ERROR(cudaGetDeviceCount(&num_devices), "counting GPUs");
  if (options_.device >= num_devices) {
    return absl::UnavailableError(
        absl::StrCat("GPU ", options_.device, " is wanted and this process ",
                     "sees ", num_devices, " (CUDA_VISIBLE_DEVICES)"));
  }
  QUIRE_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device),
                             "choosing the GPU");
  cudaDeviceProp properties;
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaGetDeviceProperties(&properties, options_.device), "asking the GPU");
  if (properties.major < 8) {
    return absl::UnavailableError(absl::StrCat(
        properties.name, " has compute capability ", properties.major, ".",
        properties.minor, "; 8.0 or later is needed"));
  }
  num_sms_ = properties.multiProcessorCount;
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaStreamCreateWithFlags(&swap_stream_, cudaStreamNonBlocking),
      "stream");
  for (cudaEvent_t* event : {&computed_, &swapped_}) {
    QUIRE_RETURN_IF_CUDA_ERROR(
        cudaEventCreateWithFlags(event, cudaEventDisableTiming), "event");
  }
  LtGemmOptions gemm;
  gemm.is_deterministic = options_.is_deterministic;
  gemm.is_tuned = options_.is_tuned;
  gemm.cache_path = options_.gemm_cache_path;
  QUIRE_ASSIGN_OR_RETURN(gemm_, LtGemm::Create(gemm, stream_));
  sampler_ = std::make_unique<CudaSampler>(stream_);
  const int threads = static_cast<int>(std::thread::hardware_concurrency());
  upload_ = std::make_unique<WeightUpload>(
      stream_, std::clamp(threads, 1, kUploadThreads));
  return absl::OkStatus();
}

absl::Status CudaBackend::Begin() {
  if (!error_.ok()) return error_;
  thread_local int current = -1;
  if (current == options_.device) return absl::OkStatus();
  const cudaError_t error = cudaSetDevice(options_.device);
  if (error == cudaSuccess) current = options_.device;
  return Keep(CudaStatus(error, "choosing the GPU"));
}

absl::Status CudaBackend::Keep(absl::Status status) {
  if (status.code() == absl::StatusCode::kInternal && error_.ok()) {
    error_ = status;
  }
  return status;
}

absl::StatusOr<MemoryInfo> CudaBackend::GetMemoryInfo() {
  QUIRE_RETURN_IF_ERROR(Begin());
  size_t free_bytes = 0, total_bytes = 0;
  QUIRE_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes),
                             "memory");
  return MemoryInfo{static_cast<int64_t>(total_bytes),
                    static_cast<int64_t>(free_bytes)};
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CudaBackend::Allocate(
    int64_t bytes) {
  QUIRE_RETURN_IF_ERROR(Begin());
  return AllocateCuda(bytes);
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CudaBackend::AllocateHost(
    int64_t bytes) {
  QUIRE_RETURN_IF_ERROR(Begin());
  return AllocatePinned(bytes);
}

absl::Status CudaBackend::CopyToDevice(const void* host, void* device,
                                       int64_t bytes) {
  QUIRE_RETURN_IF_ERROR(Begin());
  has_plan_ = false;  // it may be the plan's arrays that change
  return Keep(CudaStatus(
      cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_),
      "copy to the device"));
}

absl::Status CudaBackend::CopyToHost(const void* device, void* host,
                                     int64_t bytes) {
  QUIRE_RETURN_IF_ERROR(Begin());
  return Keep(CudaStatus(
      cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_),
      "copy to the host"));
}

absl::Status CudaBackend::Synchronize() {
  QUIRE_RETURN_IF_ERROR(Begin());
  QUIRE_RETURN_IF_ERROR(WaitForSwaps());
  return Keep(CudaStatus(cudaStreamSynchronize(stream_), "a kernel"));
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CudaBackend::UploadRows(
    absl::Span<const HostMatrix> stacked) {
  CHECK(!stacked.empty());
  int64_t rows = 0;
  for (const HostMatrix& matrix : stacked) {
    CHECK_EQ(matrix.cols, stacked.front().cols);
    rows += matrix.rows;
  }
  QUIRE_RETURN_IF_ERROR(Begin());
  QUIRE_ASSIGN_OR_RETURN(
      std::unique_ptr<DeviceBuffer> buffer,
      AllocateCuda(rows * stacked.front().cols * SizeOf(options_.dtype)));
  QUIRE_RETURN_IF_ERROR(
      Keep(upload_->Run(stacked, options_.dtype, buffer->data())));
  return buffer;
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CudaBackend::PackWeight(
    absl::Span<const HostMatrix> stacked) {
  QUIRE_ASSIGN_OR_RETURN(auto rows, UploadRows(stacked));
  int64_t n = 0;
  for (const HostMatrix& matrix : stacked) n += matrix.rows;
  return std::make_unique<CudaWeight>(n, stacked.front().cols, std::move(rows));
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CudaBackend::Upload(
    absl::Span<const HostMatrix> stacked) {
  return UploadRows(stacked);
}

absl::Status CudaBackend::Gemm(const GemmParams& params) {
  if (params.m <= 0) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(Begin());
  const auto& weight = static_cast<const CudaWeight&>(*params.weight);
  const PlainGemmParams product = {.x = params.x,
                                   .x_stride = params.x_stride,
                                   .w = weight.data(),
                                   .bias = params.bias,
                                   .y = params.y,
                                   .y_stride = params.y_stride,
                                   .m = params.m,
                                   .n = weight.n(),
                                   .k = weight.k(),
                                   .dtype = options_.dtype,
                                   .y_dtype = params.y_dtype};
  if (LtGemm::CanRun(product)) return Keep(gemm_->Run(product));
  return Keep(CudaStatus(LaunchPlainGemmCuda(product, stream_), "product"));
}

absl::Status CudaBackend::RopeWriteKv(const RopeWriteKvParams& params) {
  DCHECK(params.cache.layout.dtype == options_.dtype);
  QUIRE_RETURN_IF_ERROR(WaitForSwaps());
  return Launch("rope and KV write", LaunchRopeWriteKvCuda, params);
}

absl::Status CudaBackend::Attention(const AttentionParams& params) {
  DCHECK(params.cache.layout.dtype == options_.dtype);
  if (params.num_tokens <= 0) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(Begin());
  QUIRE_RETURN_IF_ERROR(WaitForSwaps());
  const int64_t bytes =
      AttentionCudaWorkspaceBytes(params.num_tokens, params.num_q_heads,
                                  params.cache.layout.head_dim, num_sms_);
  if (attention_workspace_ == nullptr ||
      attention_workspace_->bytes() < bytes) {
    // Only the first steps of a larger size come here.
    QUIRE_RETURN_IF_ERROR(Synchronize());
    QUIRE_RETURN_IF_ERROR(
        GrowBuffer(bytes, AllocateCuda, &attention_workspace_));
    has_plan_ = false;
  }
  AttentionCudaOptions options = {};
  options.workspace = attention_workspace_->data();
  options.workspace_bytes = attention_workspace_->bytes();
  options.num_sms = num_sms_;
  options.max_context = 0;
  // Every sequence has a new token at least.
  options.max_query = params.num_tokens - params.num_seqs + 1;
  options.is_deterministic = options_.is_deterministic;
  options.reuse_plan = has_plan_ && IsSameStep(params, planned_);
  planned_ = params;
  has_plan_ = true;
  return Keep(
      CudaStatus(LaunchAttentionCuda(params, options, stream_), "attention"));
}

absl::Status CudaBackend::CopyBlocks(const BlockCopyParams& params) {
  QUIRE_RETURN_IF_ERROR(WaitForSwaps());
  return Launch("copying blocks", LaunchCopyBlocksCuda, params);
}

absl::Status CudaBackend::Swap(const BlockCopyParams& params,
                               cudaMemcpyKind direction,
                               const char* operation) {
  if (params.num_pairs <= 0) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(Begin());
  // Blocks hold what was enqueued before; what follows waits only where it
  // reads or writes blocks, so that products go on beside the copies.
  QUIRE_RETURN_IF_ERROR(
      Keep(CudaStatus(cudaEventRecord(computed_, stream_), operation)));
  QUIRE_RETURN_IF_ERROR(Keep(
      CudaStatus(cudaStreamWaitEvent(swap_stream_, computed_, 0), operation)));
  QUIRE_RETURN_IF_ERROR(Keep(
      CudaStatus(SwapBlocksCuda(params, direction, swap_stream_), operation)));
  is_swapping_ = true;
  return Keep(CudaStatus(cudaEventRecord(swapped_, swap_stream_), operation));
}

absl::Status CudaBackend::WaitForSwaps() {
  if (!is_swapping_) return absl::OkStatus();
  is_swapping_ = false;
  return Keep(
      CudaStatus(cudaStreamWaitEvent(stream_, swapped_, 0), "swapping"));
}

absl::Status CudaBackend::SampleShard(const SampleShardParams& params) {
  QUIRE_RETURN_IF_ERROR(Begin());
  return Keep(sampler_->Run(params));
}

}  // namespace

bool HasCudaBackend() { return true; }

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(
    const CudaBackendOptions& options) {
  auto backend = std::make_unique<CudaBackend>(options);
  QUIRE_RETURN_IF_ERROR(backend->Init());
  return backend;
}

}  // namespace quire
