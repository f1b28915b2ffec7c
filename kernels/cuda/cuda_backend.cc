// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_backend.h"

#include <utility>

#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_runner.h"
#include "kernels/cuda/block_swapper.h"
#include "kernels/cuda/choose_tokens.h"
#include "kernels/cuda/copy_blocks.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_marks.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_products.h"
#include "kernels/cuda/cuda_recording.h"
#include "kernels/cuda/cuda_sampler.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_virtual_memory.h"
#include "kernels/cuda/cuda_wait.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/edit_logits.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/moe_route.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/operation_timer.h"
#include "kernels/cuda/rope_kv.h"
#include "kernels/cuda/shaped_choice.h"

namespace quire {
namespace {

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaBackendOptions& options) : options_(options) {}
  ~CudaBackend() override;

  absl::Status Init();

  std::string name() const override { return "cuda"; }
  DType dtype() const override { return options_.dtype; }
  DType partial_dtype() const override { return options_.partial_dtype; }

  absl::StatusOr<MemoryInfo> GetMemoryInfo() override {
    QUIRE_RETURN_IF_ERROR(Begin());
    return GetCudaMemory();
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(
      int64_t bytes) override {
    QUIRE_RETURN_IF_ERROR(Begin());
    return AllocateCuda(bytes);
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateHost(
      int64_t bytes) override {
    QUIRE_RETURN_IF_ERROR(Begin());
    return AllocatePinned(bytes);
  }
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
      absl::Span<const HostMatrix> stacked) override {
    return Packed([&] { return packer_->PackWeight(stacked); });
  }
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackGated(
      const HostMatrix& gate, const HostMatrix& up) override {
    return Packed([&] { return packer_->PackGated(gate, up); });
  }
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackExperts(
      absl::Span<const HostMatrix> stacked, int32_t num_experts) override {
    return Packed([&] { return packer_->PackExperts(stacked, num_experts); });
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const HostMatrix> stacked) override {
    return Packed([&] { return packer_->Upload(stacked); });
  }

  absl::Status Gemm(const GemmParams& params) override {
    if (params.m <= 0) return absl::OkStatus();
    return Multiply(products_->ProductOf(params));
  }
  bool adds_products() const override { return true; }
  bool CanSend(const GemmParams& params) const override {
    return params.m > 0 && products_->CanSend(products_->ProductOf(params));
  }
  bool CanFoldNorm(const GemmParams& params, const PackedWeight& next,
                   bool is_gated) const override {
    return params.m > 0 && products_->CanFoldNorm(
                               products_->ProductOf(params),
                               static_cast<const CudaWeight&>(next), is_gated);
  }
  KvOrder kv_order(const KvLayout& layout) const override {
    // Decodes that read tiles by bulk copies did not repeat to the bit.
    return options_.is_deterministic ? KvOrder::kHeads
                                     : AttentionCudaOrder(layout);
  }
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
  absl::Status ExpertGemm(const ExpertGemmParams& params) override {
    return Timed(TimedName(timer_.get(), "experts", params.weight->n(),
                           params.weight->k()),
                 [&] { return products_->RunExperts(params); });
  }
  absl::Status CombineExperts(const CombineExpertsParams& params) override {
    return Launch("combining experts", LaunchCombineExpertsCuda, params);
  }
  absl::Status RopeWriteKv(const RopeWriteKvParams& params) override {
    return RopeWriteKv(params, /*is_known=*/false);
  }
  absl::Status Attention(const AttentionParams& params) override;
  absl::Status AttendNewTokens(const AttendNewTokensParams& params) override;
  absl::Status CopyBlocks(const BlockCopyParams& params) override {
    QUIRE_RETURN_IF_ERROR(WaitForSwaps());
    return Launch("copying blocks", LaunchCopyBlocksCuda, params);
  }
  absl::Status SwapOutBlocks(const BlockCopyParams& params) override {
    return Swap(params, cudaMemcpyDeviceToHost, "swapping out");
  }
  absl::Status SwapInBlocks(const BlockCopyParams& params) override {
    return Swap(params, cudaMemcpyHostToDevice, "swapping in");
  }
  absl::Status SampleShard(const SampleShardParams& params) override {
    return Timed("sampling", [&] { return sampler_->Run(params); });
  }
  absl::Status ChooseTokens(const ChooseTokensParams& params) override;
  absl::Status MergeChoices(const MergeChoicesParams& params) override {
    return Launch("merging choices", LaunchMergeChoicesCuda, params);
  }
  absl::Status CopyRuns(const CopyRunsParams& params) override {
    attention_->ForgetPlan();  // it may be the block tables that change
    return Launch("copying runs", LaunchCopyRunsCuda, params);
  }
  bool chooses_shaped() const override { return true; }
  absl::Status ChooseShaped(const ShapedChoiceParams& params) override {
    return Timed("choosing tokens", [&] { return shaped_->Run(params); });
  }
  absl::Status EditLogits(const EditLogitsParams& params) override {
    return Timed("editing logits", [&] { return shaped_->Edit(params); });
  }
  absl::Status MaskLogits(const MaskLogitsParams& params) override {
    return Launch("masking logits", LaunchMaskLogitsCuda, params);
  }
  absl::Status FinishEdits(const EditLogitsParams& params) override {
    return Timed("finishing edits", [&] { return shaped_->Finish(params); });
  }
  absl::Status ListTokens(const ListTokensParams& params) override {
    return Timed("listing tokens", [&] { return shaped_->List(params); });
  }
  absl::Status MergeLists(const MergeListsParams& params) override {
    return Timed("merging lists", [&] { return shaped_->Merge(params); });
  }
  absl::Status ChooseFromNuclei(const NucleusParams& params) override {
    return Timed("choosing from nuclei",
                 [&] { return shaped_->ChooseFromNuclei(params); });
  }
  absl::Status TakeShardLogprobs(const ShardLogprobsParams& params) override {
    return Timed("taking log probabilities",
                 [&] { return shaped_->TakeShardLogprobs(params); });
  }

  bool is_asynchronous() const override { return true; }
  absl::StatusOr<std::unique_ptr<Recording>> Record(
      std::function<absl::Status()> enqueue) override;
  absl::Status Replay(Recording* recording) override;
  absl::Status MarkBegin(int32_t index) override {
    QUIRE_RETURN_IF_ERROR(Begin());
    return Keep(marks_->Begin(index));
  }
  absl::Status Mark(int32_t index) override {
    QUIRE_RETURN_IF_ERROR(Begin());
    return Keep(marks_->End(index));
  }
  // No member that changes: another thread may be enqueueing.
  absl::Status WaitForMark(int32_t index) override {
    return marks_->Wait(index);
  }
  double IdleSeconds(int32_t before, int32_t index) override {
    return marks_->IdleSeconds(before, index);
  }
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
  // What a function packs or uploads; its error, if it has one, kept.
  template <typename Function>
  auto Packed(const Function& pack) -> decltype(pack()) {
    QUIRE_RETURN_IF_ERROR(Begin());
    auto packed = pack();
    if (!packed.ok()) return Keep(packed.status());
    return packed;
  }
  // Room for what operations need beside their operands. What a recording may
  // still name stays where it is.
  absl::Status Reserve(int64_t bytes, std::unique_ptr<DeviceBuffer>* buffer);

  absl::Status RopeWriteKv(const RopeWriteKvParams& params, bool is_known);
  // REQUIRES: not gated, or products_->CanGate().
  absl::Status Multiply(const PlainGemmParams& product) {
    return Timed(TimedName(timer_.get(), "product", product.n, product.k),
                 [&] { return products_->Run(product); });
  }
  absl::Status Swap(const BlockCopyParams& params, cudaMemcpyKind direction,
                    const char* operation) {
    QUIRE_RETURN_IF_ERROR(Begin());
    return Keep(swapper_->Swap(params, direction, operation));
  }
  absl::Status WaitForSwaps() { return Keep(swapper_->Join()); }

  CudaBackendOptions options_;
  absl::Status error_;
  cudaStream_t stream_ = nullptr;
  int num_sms_ = 0;
  std::unique_ptr<BlockSwapper> swapper_;
  std::unique_ptr<CudaMarks> marks_;
  std::unique_ptr<CudaWeightPacker> packer_;
  std::unique_ptr<CudaProducts> products_;
  std::unique_ptr<AttentionRunner> attention_;
  std::unique_ptr<CudaSampler> sampler_;
  std::unique_ptr<CudaShapedChoice> shaped_;
  std::unique_ptr<OperationTimer> timer_;
  bool has_recordings_ = false;
  std::vector<std::unique_ptr<DeviceBuffer>> outgrown_;  // of recordings
  std::unique_ptr<DeviceBuffer> choice_workspace_;
  int32_t choice_rows_ = 0;  // that it has room for
};

CudaBackend::~CudaBackend() {
  cudaSetDevice(options_.device);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  swapper_.reset();
  marks_.reset();
  timer_.reset();
  packer_.reset();
  sampler_.reset();
  shaped_.reset();
  products_.reset();
  attention_.reset();
  choice_workspace_.reset();
  outgrown_.clear();
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::Status CudaBackend::Init() {
  QUIRE_ASSIGN_OR_RETURN(num_sms_, OpenCudaDevice(options_.device));
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  swapper_ = std::make_unique<BlockSwapper>(stream_);
  QUIRE_RETURN_IF_ERROR(swapper_->Init());
  marks_ = std::make_unique<CudaMarks>(stream_, options_.wait);
  QUIRE_RETURN_IF_ERROR(marks_->Init(options_.measures_idleness));
  if (options_.times_operations) {
    timer_ = std::make_unique<OperationTimer>(stream_);
  }
  packer_ = std::make_unique<CudaWeightPacker>(options_.dtype, stream_);
  CudaProductOptions products;
  products.library.is_deterministic = options_.is_deterministic;
  products.library.is_tuned = options_.is_tuned;
  products.library.cache_path = options_.gemm_cache_path;
  products.has_stream_gemm =
      options_.has_stream_gemm && !options_.is_deterministic;
  products.has_tile_gemm = options_.has_tile_gemm && !options_.is_deterministic;
  QUIRE_ASSIGN_OR_RETURN(
      products_, CudaProducts::Create(products, options_.dtype, stream_));
  attention_ = std::make_unique<AttentionRunner>(
      stream_, num_sms_, options_.is_deterministic,
      [this](int64_t bytes, std::unique_ptr<DeviceBuffer>* buffer) {
        return Reserve(bytes, buffer);
      });
  sampler_ = std::make_unique<CudaSampler>(stream_, options_.wait);
  shaped_ = std::make_unique<CudaShapedChoice>(stream_, num_sms_);
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

absl::Status CudaBackend::CopyToDevice(const void* host, void* device,
                                       int64_t bytes) {
  QUIRE_RETURN_IF_ERROR(Begin());
  attention_->ForgetPlan();  // it may be the plan's arrays that change
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
      Keep(CudaStatus(WaitForStream(stream_, options_.wait), "a kernel")));
  if (timer_ != nullptr) timer_->Collect();
  return absl::OkStatus();
}

absl::Status CudaBackend::GatedGemm(const GatedGemmParams& params) {
  if (!static_cast<const CudaWeight&>(*params.weight).is_in_turns()) {
    return Backend::GatedGemm(params);
  }
  if (params.m <= 0) return absl::OkStatus();
  const PlainGemmParams gated = products_->ProductOf(params);
  if (products_->CanGate(gated)) return Multiply(gated);
  QUIRE_RETURN_IF_ERROR(Multiply(products_->UngatedProductOf(params)));
  const ActivationParams gates = {.kind = ActivationKind::kSiluMul,
                                  .x = params.products,
                                  .out = params.y,
                                  .width = static_cast<int32_t>(gated.y_stride),
                                  .num_tokens = params.m};
  return Launch("activation", LaunchSiluMulInTurnsCuda, gates, options_.dtype);
}

absl::Status CudaBackend::RopeWriteKv(const RopeWriteKvParams& params,
                                      bool is_known) {
  DCHECK(params.cache.layout.dtype == options_.dtype);
  QUIRE_RETURN_IF_ERROR(WaitForSwaps());
  return Launch("rope and KV write", LaunchRopeWriteKvCuda, params, is_known);
}

absl::Status CudaBackend::AttendNewTokens(const AttendNewTokensParams& params) {
  const AttentionParams& attention = params.attention;
  if (attention.sparse.first_positions != nullptr) {
    return Backend::AttendNewTokens(params);
  }
  QUIRE_RETURN_IF_ERROR(
      RopeWriteKv(params.write, attention_->HasPlan(attention)));
  return Attention(attention);
}

absl::Status CudaBackend::Attention(const AttentionParams& params) {
  DCHECK(params.cache.layout.dtype == options_.dtype);
  if (params.num_tokens <= 0) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(Begin());
  QUIRE_RETURN_IF_ERROR(WaitForSwaps());
  QUIRE_RETURN_IF_ERROR(Keep(attention_->Reserve(params)));
  return Timed("attention", [&] { return attention_->Run(params); });
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

absl::StatusOr<std::unique_ptr<Recording>> CudaBackend::Record(
    std::function<absl::Status()> enqueue) {
  QUIRE_RETURN_IF_ERROR(Synchronize());
  attention_->ForgetPlan();
  has_recordings_ = true;
  auto recording = CudaRecording::Capture(enqueue, stream_);
  attention_->ForgetPlan();
  if (!recording.ok()) return Keep(recording.status());
  return *std::move(recording);
}

absl::Status CudaBackend::Replay(Recording* recording) {
  QUIRE_RETURN_IF_ERROR(Begin());
  QUIRE_RETURN_IF_ERROR(WaitForSwaps());
  attention_->ForgetPlan();  // the workspace holds the recorded step's
  return Keep(static_cast<CudaRecording*>(recording)->Launch(stream_));
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
