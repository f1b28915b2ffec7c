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
#include "kernels/cuda/choose_tokens.h"
#include "kernels/cuda/copy_blocks.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_recording.h"
#include "kernels/cuda/cuda_sampler.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_virtual_memory.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gated_rows.h"
#include "kernels/cuda/lt_gemm.h"
#include "kernels/cuda/moe_gemm.h"
#include "kernels/cuda/moe_route.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/operation_timer.h"
#include "kernels/cuda/rope_kv.h"
#include "kernels/cuda/shaped_choice.h"
#include "kernels/cuda/stream_gemm.h"
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

// Dense rows, as they multiply best; gates in turns with what they let through,
// if their numbers allow.
class CudaWeight final : public PackedWeight {
 public:
  CudaWeight(int64_t n, int64_t k, bool is_in_turns,
             std::unique_ptr<DeviceBuffer> rows)
      : PackedWeight(n, k, rows->bytes()),
        is_in_turns_(is_in_turns),
        rows_(std::move(rows)) {}
  const void* data() const { return rows_->data(); }
  bool is_in_turns() const { return is_in_turns_; }

 private:
  const bool is_in_turns_;
  const std::unique_ptr<DeviceBuffer> rows_;
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
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackExperts(
      absl::Span<const HostMatrix> stacked, int32_t num_experts) override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const HostMatrix> stacked) override;

  absl::StatusOr<std::unique_ptr<PackedWeight>> PackGated(
      const HostMatrix& gate, const HostMatrix& up) override;

  absl::Status Gemm(const GemmParams& params) override;
  bool adds_products() const override { return true; }
  absl::Status GatedGemm(const GatedGemmParams& params) override;
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
  absl::Status RouteTokens(const RouteTokensParams& params) override {
    return Launch("routing", LaunchRouteTokensCuda, params);
  }
  absl::Status ExpertGemm(const ExpertGemmParams& params) override;
  absl::Status CombineExperts(const CombineExpertsParams& params) override {
    return Launch("combining experts", LaunchCombineExpertsCuda, params);
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
  absl::Status ChooseTokens(const ChooseTokensParams& params) override;
  absl::Status MergeChoices(const MergeChoicesParams& params) override {
    return Launch("merging choices", LaunchMergeChoicesCuda, params);
  }
  absl::Status CopyRuns(const CopyRunsParams& params) override;
  bool chooses_shaped() const override { return true; }
  absl::Status ChooseShaped(const ShapedChoiceParams& params) override {
    return Timed("choosing tokens", [&] { return shaped_->Run(params); });
  }

  bool is_asynchronous() const override { return true; }
  absl::StatusOr<std::unique_ptr<Recording>> Record(
      std::function<absl::Status()> enqueue) override;
  absl::Status Replay(Recording* recording) override;
  absl::Status MarkBegin(int32_t index) override;
  double IdleSeconds(int32_t before, int32_t index) override;
  absl::Status Mark(int32_t index) override;
  absl::Status WaitForMark(int32_t index) override;
  std::vector<OperationTime> TakeOperationTimes() override {
    return timer_ == nullptr ? std::vector<OperationTime>() : timer_->Take();
  }

 private:
  // Makes the device this thread's; the sticky error, if there is one.
  absl::Status Begin();
  // Remembers the first error that poisons the device.
  absl::Status Keep(absl::Status status);

  template <typename Function, typename Params, typename... Rest>
  absl::Status Launch(const char* operation, Function launch,
                      const Params& params, Rest... rest) {
    return Timed(operation, [&] {
      return CudaStatus(launch(params, rest..., stream_), operation);
    });
  }
  // Enqueues by a function that returns a status.
  template <typename Enqueue>
  absl::Status Timed(const std::string& operation, const Enqueue& enqueue) {
    QUIRE_RETURN_IF_ERROR(Begin());
    if (timer_ != nullptr) timer_->Begin(operation);
    const absl::Status status = Keep(enqueue());
    if (timer_ != nullptr) timer_->End();
    return status;
  }
  // Room for what operations need beside their operands. What a recording may
  // still name stays where it is.
  absl::Status Reserve(int64_t bytes, std::unique_ptr<DeviceBuffer>* buffer);

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> UploadRows(
      absl::Span<const HostMatrix> stacked);
  PlainGemmParams ProductOf(const CudaWeight& weight, const void* x, void* y,
                            int32_t m) const;
  // By the kernel that suits it. REQUIRES: not gated, or CanStream().
  absl::Status Multiply(const PlainGemmParams& product);
  bool CanStream(const PlainGemmParams& product) const;
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
  std::unique_ptr<StreamGemm> stream_gemm_;  // null: all are the library's
  std::unique_ptr<CudaSampler> sampler_;
  std::unique_ptr<CudaShapedChoice> shaped_;
  std::unique_ptr<WeightUpload> upload_;
  std::unique_ptr<OperationTimer> timer_;
  cudaEvent_t marks_[kNumMarks] = {};
  cudaEvent_t begins_[kNumMarks] = {};  // null: idleness is not measured
  bool has_recordings_ = false;
  std::vector<std::unique_ptr<DeviceBuffer>> outgrown_;  // of recordings
  std::unique_ptr<DeviceBuffer> attention_workspace_;
  std::unique_ptr<DeviceBuffer> choice_workspace_;
  int32_t choice_rows_ = 0;  // that it has room for
  // The step that the workspace holds a plan of: until something is copied to
  // the device, its arrays hold what they held.
  bool has_plan_ = false;
  AttentionParams planned_ = {};
};

CudaBackend::~CudaBackend() {
  cudaSetDevice(options_.device);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  if (swap_stream_ != nullptr) cudaStreamSynchronize(swap_stream_);
  timer_.reset();
  upload_.reset();
  sampler_.reset();
  shaped_.reset();
  gemm_.reset();
  stream_gemm_.reset();
  attention_workspace_.reset();
  choice_workspace_.reset();
  outgrown_.clear();
  for (cudaEvent_t begin : begins_) {
    if (begin != nullptr) cudaEventDestroy(begin);
  }
  for (cudaEvent_t mark : marks_) {
    if (mark != nullptr) cudaEventDestroy(mark);
  }
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
  const unsigned timing =
      options_.measures_idleness ? 0 : cudaEventDisableTiming;
  for (cudaEvent_t& mark : marks_) {
    QUIRE_RETURN_IF_CUDA_ERROR(
        cudaEventCreateWithFlags(&mark, timing | cudaEventBlockingSync),
        "event");
  }
  for (cudaEvent_t& begin : begins_) {
    if (!options_.measures_idleness) break;
    QUIRE_RETURN_IF_CUDA_ERROR(cudaEventCreate(&begin), "event");
  }
  if (options_.times_operations) {
    timer_ = std::make_unique<OperationTimer>(stream_);
  }
  LtGemmOptions gemm;
  gemm.is_deterministic = options_.is_deterministic;
  gemm.is_tuned = options_.is_tuned;
  gemm.cache_path = options_.gemm_cache_path;
  QUIRE_ASSIGN_OR_RETURN(gemm_, LtGemm::Create(gemm, stream_));
  if (options_.has_stream_gemm && !options_.is_deterministic) {
    QUIRE_ASSIGN_OR_RETURN(stream_gemm_, StreamGemm::Create(stream_));
  }
  sampler_ = std::make_unique<CudaSampler>(stream_);
  shaped_ = std::make_unique<CudaShapedChoice>(stream_, num_sms_);
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
  QUIRE_RETURN_IF_ERROR(
      Keep(CudaStatus(cudaStreamSynchronize(stream_), "a kernel")));
  if (timer_ != nullptr) timer_->Collect();
  return absl::OkStatus();
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
  return std::make_unique<CudaWeight>(n, stacked.front().cols,
                                      /*is_in_turns=*/false, std::move(rows));
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CudaBackend::PackGated(
    const HostMatrix& gate, const HostMatrix& up) {
  CHECK_EQ(gate.rows, up.rows);
  QUIRE_ASSIGN_OR_RETURN(auto rows, UploadRows({gate, up}));
  const int64_t n = 2 * gate.rows;
  const bool is_in_turns = gate.rows % kGatedRows == 0;
  if (is_in_turns) {
    const int64_t half = rows->bytes() / 2;
    const int64_t turn = kGatedRows * gate.cols * SizeOf(options_.dtype);
    QUIRE_ASSIGN_OR_RETURN(auto turns, AllocateCuda(rows->bytes()));
    for (int i : {0, 1}) {
      QUIRE_RETURN_IF_ERROR(Keep(
          CudaStatus(cudaMemcpy2DAsync(turns->as<char>() + i * turn, 2 * turn,
                                       rows->as<char>() + i * half, turn, turn,
                                       gate.rows / kGatedRows,
                                       cudaMemcpyDeviceToDevice, stream_),
                     "dealing out gates")));
    }
    // The halves are freed on return.
    QUIRE_RETURN_IF_ERROR(
        Keep(CudaStatus(cudaStreamSynchronize(stream_), "dealing out gates")));
    rows = std::move(turns);
  }
  return std::make_unique<CudaWeight>(n, gate.cols, is_in_turns,
                                      std::move(rows));
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CudaBackend::PackExperts(
    absl::Span<const HostMatrix> stacked, int32_t num_experts) {
  QUIRE_ASSIGN_OR_RETURN(auto rows, UploadRows(stacked));
  int64_t n = 0;
  for (const HostMatrix& matrix : stacked) n += matrix.rows;
  CHECK_EQ(n % num_experts, 0);
  return std::make_unique<CudaWeight>(n / num_experts, stacked.front().cols,
                                      /*is_in_turns=*/false, std::move(rows));
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CudaBackend::Upload(
    absl::Span<const HostMatrix> stacked) {
  return UploadRows(stacked);
}

PlainGemmParams CudaBackend::ProductOf(const CudaWeight& weight, const void* x,
                                       void* y, int32_t m) const {
  return {.x = x,
          .x_stride = weight.k(),
          .w = weight.data(),
          .bias = nullptr,
          .y = y,
          .y_stride = weight.n(),
          .m = m,
          .n = weight.n(),
          .k = weight.k(),
          .dtype = options_.dtype,
          .y_dtype = options_.dtype};
}

bool CudaBackend::CanStream(const PlainGemmParams& product) const {
  return stream_gemm_ != nullptr && StreamGemm::CanRun(product);
}

absl::Status CudaBackend::Multiply(const PlainGemmParams& product) {
  const std::string operation =
      timer_ == nullptr ? std::string()
                        : absl::StrCat("product ", product.n, "x", product.k);
  return Timed(operation, [&] {
    if (CanStream(product)) return stream_gemm_->Run(product);
    return LtGemm::CanRun(product)
               ? gemm_->Run(product)
               : CudaStatus(LaunchPlainGemmCuda(product, stream_), "product");
  });
}

absl::Status CudaBackend::ExpertGemm(const ExpertGemmParams& params) {
  const auto& weight = static_cast<const CudaWeight&>(*params.weight);
  const MoeGemmParams product = {.x = params.x,
                                 .row_tokens = params.row_tokens,
                                 .w = weight.data(),
                                 .expert_start = params.expert_start,
                                 .y = params.y,
                                 .n = weight.n(),
                                 .k = weight.k(),
                                 .num_experts = params.num_experts,
                                 .num_rows = params.num_rows,
                                 .dtype = options_.dtype,
                                 .y_dtype = params.y_dtype};
  const std::string operation =
      timer_ == nullptr ? std::string()
                        : absl::StrCat("experts ", product.n, "x", product.k);
  return Timed(operation, [&] {
    return CudaStatus(LaunchMoeGemmCuda(product, stream_), "experts");
  });
}

absl::Status CudaBackend::Gemm(const GemmParams& params) {
  if (params.m <= 0) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(Begin());
  PlainGemmParams product =
      ProductOf(static_cast<const CudaWeight&>(*params.weight), params.x,
                params.y, params.m);
  product.x_stride = params.x_stride;
  product.bias = params.bias;
  product.y_stride = params.y_stride;
  product.y_dtype = params.y_dtype;
  product.adds = params.adds;
  return Multiply(product);
}

absl::Status CudaBackend::GatedGemm(const GatedGemmParams& params) {
  const auto& weight = static_cast<const CudaWeight&>(*params.weight);
  if (!weight.is_in_turns()) return Backend::GatedGemm(params);
  if (params.m <= 0) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(Begin());
  PlainGemmParams product = ProductOf(weight, params.x, params.y, params.m);
  product.y_stride = weight.n() / 2;
  product.is_gated = true;
  if (CanStream(product)) return Multiply(product);
  QUIRE_RETURN_IF_ERROR(
      Multiply(ProductOf(weight, params.x, params.products, params.m)));
  const ActivationParams gates = {.kind = ActivationKind::kSiluMul,
                                  .x = params.products,
                                  .out = params.y,
                                  .width = static_cast<int32_t>(weight.n() / 2),
                                  .num_tokens = params.m};
  return Launch("activation", LaunchSiluMulInTurnsCuda, gates, options_.dtype);
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
    QUIRE_RETURN_IF_ERROR(Reserve(bytes, &attention_workspace_));
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
  return Timed("attention", [&] {
    return CudaStatus(LaunchAttentionCuda(params, options, stream_),
                      "attention");
  });
}

absl::Status CudaBackend::Reserve(int64_t bytes,
                                  std::unique_ptr<DeviceBuffer>* buffer) {
  // Only the first steps of a larger size come here.
  QUIRE_RETURN_IF_ERROR(Synchronize());
  if (has_recordings_ && *buffer != nullptr) {
    outgrown_.push_back(std::move(*buffer));
  }
  return GrowBuffer(bytes, AllocateCuda, buffer);
}

absl::Status CudaBackend::ChooseTokens(const ChooseTokensParams& params) {
  if (params.num_rows <= 0) return absl::OkStatus();
  const int64_t bytes =
      ChooseTokensWorkspaceBytes(params.num_rows, params.num_vocab);
  if (choice_rows_ < params.num_rows || choice_workspace_->bytes() < bytes) {
    QUIRE_RETURN_IF_ERROR(Begin());
    QUIRE_RETURN_IF_ERROR(Reserve(bytes, &choice_workspace_));
    choice_rows_ = params.num_rows;
    QUIRE_RETURN_IF_ERROR(Keep(CudaStatus(
        cudaMemsetAsync(choice_workspace_->data(), 0, bytes, stream_),
        "choosing tokens")));
  }
  return Launch("choosing tokens", LaunchChooseTokensCuda, params,
                choice_workspace_->data(), choice_rows_);
}

absl::Status CudaBackend::CopyRuns(const CopyRunsParams& params) {
  has_plan_ = false;  // it may be the block tables that change
  return Launch("copying runs", LaunchCopyRunsCuda, params);
}

absl::StatusOr<std::unique_ptr<Recording>> CudaBackend::Record(
    std::function<absl::Status()> enqueue) {
  QUIRE_RETURN_IF_ERROR(Synchronize());
  has_plan_ = false;
  has_recordings_ = true;
  auto recording = CudaRecording::Capture(enqueue, stream_);
  has_plan_ = false;
  if (!recording.ok()) return Keep(recording.status());
  return *std::move(recording);
}

absl::Status CudaBackend::Replay(Recording* recording) {
  QUIRE_RETURN_IF_ERROR(Begin());
  QUIRE_RETURN_IF_ERROR(WaitForSwaps());
  has_plan_ = false;  // the workspace holds the recorded step's
  return Keep(static_cast<CudaRecording*>(recording)->Launch(stream_));
}

absl::Status CudaBackend::MarkBegin(int32_t index) {
  if (begins_[index] == nullptr) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(Begin());
  return Keep(CudaStatus(cudaEventRecord(begins_[index], stream_), "a mark"));
}

double CudaBackend::IdleSeconds(int32_t before, int32_t index) {
  if (begins_[index] == nullptr) return 0;
  float ms = 0;
  if (cudaEventElapsedTime(&ms, marks_[before], begins_[index]) !=
      cudaSuccess) {
    cudaGetLastError();  // one was never recorded
    return 0;
  }
  return std::max(ms, 0.0f) / 1e3;
}

absl::Status CudaBackend::Mark(int32_t index) {
  QUIRE_RETURN_IF_ERROR(Begin());
  return Keep(CudaStatus(cudaEventRecord(marks_[index], stream_), "a mark"));
}

// No member that changes: another thread may be enqueueing.
absl::Status CudaBackend::WaitForMark(int32_t index) {
  return CudaStatus(cudaEventSynchronize(marks_[index]), "a step");
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
  return Timed("sampling", [&] { return sampler_->Run(params); });
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
