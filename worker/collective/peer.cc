// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/peer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "kernels/cuda/all_reduce.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "worker/collective/all_reduce_table.h"
#include "worker/collective/peer_memory.h"

namespace quire {
namespace {

// Rows that a sum takes the norm of, too. Beyond, a row of many waits for its
// block, and the norm alone is quick.
constexpr int32_t kMaxNormRows = 256;
// One shot of that many bytes with the norm is faster than two with it after.
constexpr int64_t kSmallBytes = 256 << 10;

// Messages that are timed: the ways part somewhere between.
constexpr int64_t kFirstTimed = 64 << 10;
constexpr int64_t kLastTimed = 64 << 20;
constexpr int kTimedCalls = 4;
constexpr int kTimedRounds = 5;

constexpr int64_t kLaneBytes = 16;

class PeerCollective final : public Collective {
 public:
  PeerCollective(const PeerOptions& options, std::unique_ptr<PeerWatch> watch,
                 std::unique_ptr<Collective> beside)
      : options_(options),
        stream_(static_cast<cudaStream_t>(options.stream)),
        watch_(std::move(watch)),
        beside_(std::move(beside)) {}
  absl::Status Connect(KeyBoard* board);

  int32_t rank() const override { return options_.rank; }
  int32_t world_size() const override { return options_.world_size; }

  absl::Status AllReduceSum(void* data, int64_t num_elements,
                            DType dtype) override;
  absl::StatusOr<bool> AllReduceNorm(const NormParams& norm,
                                     DType dtype) override;
  const PeerGroup* PeersFor(int64_t bytes) const override;
  absl::Status SumSent(void* data, int64_t num_elements, DType dtype) override;
  absl::StatusOr<bool> SumSentNorm(const NormParams& norm,
                                   DType dtype) override;
  absl::Status EnqueueAllGather(const void* in, void* out,
                                int64_t bytes) override;
  absl::Status status() const override;
  std::string name() const override {
    return memory_ == nullptr ? beside_->name() : "peer";
  }
  std::vector<std::string> links() const override { return links_; }
  absl::Status AllGather(const void* in, void* out, int64_t bytes) override {
    QUIRE_RETURN_IF_ERROR(status());
    return beside_->AllGather(in, out, bytes);
  }
  absl::Status Barrier() override {
    QUIRE_RETURN_IF_ERROR(status());
    return beside_->Barrier();
  }

 private:
  absl::Status Run(AllReduceWay way, void* data, int64_t num_elements,
                   DType dtype);
  bool HasWay(AllReduceWay way) const;
  // Fills in table_.
  absl::Status MeasureWays();
  // The slowest rank's seconds for one sum of bf16.
  absl::StatusOr<double> TimeWay(AllReduceWay way, void* data, int64_t bytes);

  const PeerOptions options_;
  const cudaStream_t stream_;
  std::vector<std::string> links_;
  std::unique_ptr<PeerMemory> memory_;  // null: all is the library's
  // Goes before the memory, which its thread may use.
  const std::unique_ptr<PeerWatch> watch_;
  const std::unique_ptr<Collective> beside_;
  AllReduceTable table_;
};

absl::Status PeerCollective::Connect(KeyBoard* board) {
  PeerMemoryOptions memory;
  memory.rank = options_.rank;
  memory.world_size = options_.world_size;
  memory.device = options_.device;
  memory.connect_timeout = options_.connect_timeout;
  memory.operation_timeout = options_.operation_timeout;
  QUIRE_ASSIGN_OR_RETURN(const auto cards, ExchangeCards(memory, board));
  const PeerCard& own = cards[rank()];
  for (int32_t peer = 0; peer < world_size(); ++peer) {
    const PeerCard& card = cards[peer];
    if (peer == rank() || card.pid == own.pid ||
        std::string(card.machine) != own.machine ||
        std::string(card.pid_namespace) != own.pid_namespace) {
      continue;
    }
    watch_->Add(peer, card.pid);
  }
  links_ = LinksOf(memory, cards);
  auto connected = PeerMemory::Connect(memory, cards, board, beside_.get());
  if (!connected.ok()) {
    if (options_.is_required || !options_.has_library ||
        !absl::IsFailedPrecondition(connected.status())) {
      return connected.status();
    }
    LOG(WARNING) << "sums over ranks are NCCL's alone: "
                 << connected.status().message();
    return absl::OkStatus();
  }
  memory_ = *std::move(connected);
  watch_->OnEnd([this] { memory_->Abort(); });
  return MeasureWays();
}

absl::Status PeerCollective::status() const {
  if (memory_ != nullptr && memory_->outcome() == kPeerSilent) {
    watch_->End(absl::UnavailableError(
        absl::StrCat("a peer did not take part in a sum for ",
                     absl::FormatDuration(options_.operation_timeout))));
  }
  const absl::Status cause = watch_->status();
  if (cause.ok()) return beside_->status();
  return absl::UnavailableError(absl::StrCat(
      "rank ", rank(), " has no group any more: ", cause.message()));
}

bool PeerCollective::HasWay(AllReduceWay way) const {
  return way != AllReduceWay::kLibrary ||
         (options_.has_library &&
          (world_size() == 2 || !options_.is_deterministic));
}

absl::Status PeerCollective::Run(AllReduceWay way, void* data,
                                 int64_t num_elements, DType dtype) {
  if (way == AllReduceWay::kLibrary) {
    return beside_->AllReduceSum(data, num_elements, dtype);
  }
  const bool is_one = way == AllReduceWay::kOneShot;
  const int64_t width = SizeOf(dtype);
  const int64_t most =
      (is_one ? MaxOneShotBytes(world_size()) : MaxTwoShotBytes()) / width;
  for (const MessagePiece& piece :
       PiecesOf(num_elements, most, kLaneBytes / width)) {
    void* first = static_cast<char*>(data) + piece.first * width;
    QUIRE_RETURN_IF_CUDA_ERROR(
        (is_one ? LaunchOneShotCuda : LaunchTwoShotCuda)(
            memory_->group(), first, piece.size, dtype, stream_),
        "sum over ranks");
  }
  return absl::OkStatus();
}

absl::Status PeerCollective::AllReduceSum(void* data, int64_t num_elements,
                                          DType dtype) {
  QUIRE_RETURN_IF_ERROR(status());
  if (num_elements == 0) return absl::OkStatus();
  if (memory_ == nullptr) {
    return beside_->AllReduceSum(data, num_elements, dtype);
  }
  return Run(table_.WayFor(num_elements * SizeOf(dtype)), data, num_elements,
             dtype);
}

absl::StatusOr<bool> PeerCollective::AllReduceNorm(const NormParams& norm,
                                                   DType dtype) {
  QUIRE_RETURN_IF_ERROR(status());
  const int64_t bytes =
      int64_t{norm.num_tokens} * norm.width * SizeOf(norm.x_dtype);
  if (memory_ == nullptr || norm.num_tokens > kMaxNormRows ||
      !CanReduceAndNorm(world_size(), norm, dtype) ||
      (bytes > kSmallBytes && table_.WayFor(bytes) != AllReduceWay::kOneShot)) {
    return false;
  }
  QUIRE_RETURN_IF_CUDA_ERROR(
      LaunchOneShotNormCuda(memory_->group(), norm, dtype, stream_),
      "sum over ranks and norm");
  return true;
}

// A peer whose product does not send would do the same sum in one shot, too.
const PeerGroup* PeerCollective::PeersFor(int64_t bytes) const {
  return memory_ != nullptr && bytes <= MaxOneShotBytes(world_size()) &&
                 table_.WayFor(bytes) == AllReduceWay::kOneShot
             ? &memory_->group()
             : nullptr;
}

absl::Status PeerCollective::SumSent(void* data, int64_t num_elements,
                                     DType dtype) {
  QUIRE_RETURN_IF_ERROR(status());
  return CudaStatus(
      LaunchSumSentCuda(memory_->group(), data, num_elements, dtype, stream_),
      "sum of what ranks sent");
}

absl::StatusOr<bool> PeerCollective::SumSentNorm(const NormParams& norm,
                                                 DType dtype) {
  QUIRE_RETURN_IF_ERROR(status());
  if (!CanReduceAndNorm(world_size(), norm, dtype)) return false;
  QUIRE_RETURN_IF_CUDA_ERROR(
      LaunchOneShotNormCuda(memory_->group(), norm, dtype, stream_,
                            /*is_sent=*/true),
      "sum of what ranks sent and norm");
  return true;
}

absl::Status PeerCollective::EnqueueAllGather(const void* in, void* out,
                                              int64_t bytes) {
  QUIRE_RETURN_IF_ERROR(status());
  if (bytes == 0) return absl::OkStatus();
  if (memory_ == nullptr ||
      (options_.has_library && bytes > MaxOneShotBytes(world_size()))) {
    return beside_->EnqueueAllGather(in, out, bytes);
  }
  CHECK_EQ(bytes % sizeof(uint32_t), 0);
  CHECK_LE(bytes, MaxOneShotBytes(world_size()));
  return CudaStatus(
      LaunchPeerGatherCuda(memory_->group(), static_cast<const uint32_t*>(in),
                           static_cast<uint32_t*>(out),
                           bytes / sizeof(uint32_t), stream_),
      "gathering from ranks");
}

absl::StatusOr<double> PeerCollective::TimeWay(AllReduceWay way, void* data,
                                               int64_t bytes) {
  const auto run = [&] { return Run(way, data, bytes / 2, DType::kBf16); };
  QUIRE_RETURN_IF_ERROR(run());  // connects what is connected late
  QUIRE_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), "timing sums");
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
      "timing sums");
  absl::Status status;
  for (int call = 0; call < kTimedCalls && status.ok(); ++call) status = run();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_, &graph);
  QUIRE_RETURN_IF_ERROR(status);
  QUIRE_RETURN_IF_CUDA_ERROR(ended, "timing sums");
  QUIRE_RETURN_IF_CUDA_ERROR(cudaGraphInstantiate(&replay, graph, 0),
                             "timing sums");
  cudaEvent_t begin, end;
  QUIRE_RETURN_IF_CUDA_ERROR(cudaEventCreate(&begin), "timing sums");
  QUIRE_RETURN_IF_CUDA_ERROR(cudaEventCreate(&end), "timing sums");
  std::vector<double> all(world_size(), std::numeric_limits<double>::max());
  double& own = all[rank()];
  cudaError_t error = cudaSuccess;
  for (int round = 0; round <= kTimedRounds && error == cudaSuccess; ++round) {
    cudaGraphLaunch(replay, stream_);  // lets the ranks meet
    cudaEventRecord(begin, stream_);
    cudaGraphLaunch(replay, stream_);
    cudaEventRecord(end, stream_);
    error = cudaStreamSynchronize(stream_);
    float ms = 0;
    cudaEventElapsedTime(&ms, begin, end);
    if (round > 0) own = std::min(own, ms / 1000.0 / kTimedCalls);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  QUIRE_RETURN_IF_CUDA_ERROR(error, "timing sums");
  QUIRE_RETURN_IF_ERROR(AllGather(&own, all.data(), sizeof(own)));
  return *std::max_element(all.begin(), all.end());
}

absl::Status PeerCollective::MeasureWays() {
  QUIRE_ASSIGN_OR_RETURN(const auto data, AllocateCuda(kLastTimed));
  QUIRE_RETURN_IF_CUDA_ERROR(cudaMemset(data->data(), 0x3c, kLastTimed),
                             "timing sums");
  std::vector<AllReduceTimes> times;
  std::string text;
  for (int64_t bytes = kFirstTimed; bytes <= kLastTimed; bytes *= 2) {
    AllReduceTimes& row = times.emplace_back();
    row.bytes = bytes;
    row.seconds.fill(std::numeric_limits<double>::infinity());
    for (int32_t way = 0; way < kNumAllReduceWays; ++way) {
      if (!HasWay(static_cast<AllReduceWay>(way))) continue;
      QUIRE_ASSIGN_OR_RETURN(
          row.seconds[way],
          TimeWay(static_cast<AllReduceWay>(way), data->data(), bytes));
    }
    absl::StrAppend(&text, " ", ToString(row));
  }
  table_ = AllReduceTable(times);
  if (rank() == 0) {
    LOG(INFO) << "sums over ranks, us by one shot/two/library:" << text;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Collective>> ConnectPeer(
    const PeerOptions& options, KeyBoard* board,
    std::unique_ptr<PeerWatch> watch, std::unique_ptr<Collective> beside) {
  QUIRE_RETURN_IF_CUDA_ERROR(cudaSetDevice(options.device), "choosing the GPU");
  auto collective = std::make_unique<PeerCollective>(options, std::move(watch),
                                                     std::move(beside));
  QUIRE_RETURN_IF_ERROR(collective->Connect(board));
  return collective;
}

}  // namespace quire
