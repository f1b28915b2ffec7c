// SPDX-License-Identifier: Apache-2.0
//
// The device, as models see it: memory and one method per operation. Two real
// implementations, cpu and cuda, behind the same numerics contract:
//
//   A row's result never depends on the other rows of the call, nor on how many
//   there are: bitwise. Reductions run in a fixed order over fixed tiles, so a
//   token computed in a prefill chunk, in a decode or again after preemption is
//   the same token. (cuda: products keep to it in its deterministic mode only.)
//
// Operations are enqueued in order and may return before they ran; buffers must
// live until Synchronize(). Thread-compatible, but for WaitForMark(), which any
// thread may call.
// An error is sticky: the process reports it and ends.
#ifndef KERNELS_BACKEND_H_
#define KERNELS_BACKEND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/attention.h"
#include "kernels/dtype.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/listed_choice.h"
#include "kernels/moe.h"
#include "kernels/nucleus_choice.h"
#include "kernels/sample.h"
#include "kernels/shaped_choice.h"
#include "kernels/shard_logprobs.h"
#include "kernels/virtual_memory.h"

namespace quire {

// Owned device memory. 64-byte aligned, not initialised.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 protected:
  DeviceBuffer(void* data, int64_t bytes) : data_(data), bytes_(bytes) {}

 private:
  void* data_;
  int64_t bytes_;
};

// Operations to be run again: Backend::Record().
class Recording {
 public:
  virtual ~Recording() = default;
};

struct MemoryInfo {
  int64_t total_bytes;
  int64_t free_bytes;
};

// What the operations of one name took on the device.
struct OperationTime {
  std::string name;
  double seconds = 0;
  int64_t count = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;  // "cpu" or "cuda"
  // T: the dtype of weights, activations and the cache.
  virtual DType dtype() const = 0;
  // Dtype of the partial sums that row-parallel products hand to all-reduce.
  virtual DType partial_dtype() const = 0;

  // Memory. ResourceExhausted when there is not enough.
  virtual absl::StatusOr<MemoryInfo> GetMemoryInfo() = 0;
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(
      int64_t bytes) = 0;
  // Memory that both the host and the device reach quickly (pinned, on CUDA).
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateHost(
      int64_t bytes) = 0;
  // Addresses whose memory comes and goes page by page. InvalidArgument if the
  // device has no such pages; Unimplemented if it has no virtual memory.
  virtual absl::StatusOr<std::unique_ptr<VirtualMemory>> ReserveVirtual(
      const VirtualMemoryOptions& /*options*/) {
    return absl::UnimplementedError(name() + " has no virtual memory");
  }
  virtual absl::Status CopyToDevice(const void* host, void* device,
                                    int64_t bytes) = 0;
  virtual absl::Status CopyToHost(const void* device, void* host,
                                  int64_t bytes) = 0;
  // The queue of operations, for libraries that enqueue beside them: a
  // cudaStream_t. Null where calls run at once.
  virtual void* native_stream() { return nullptr; }
  // Waits for everything enqueued; reports the first error since the last call.
  virtual absl::Status Synchronize() = 0;

  // Weights, at load. Matrices are stacked by rows ([q; k; v], [gate; up]) and
  // converted to T. REQUIRES: equal cols. The sources may go away afterwards.
  virtual absl::StatusOr<std::unique_ptr<PackedWeight>> PackWeight(
      absl::Span<const HostMatrix> stacked) = 0;
  // [gate; up] of an MLP with gates, for GatedGemm() alone: in whatever order
  // of rows that multiplies fastest. REQUIRES: equal sizes.
  virtual absl::StatusOr<std::unique_ptr<PackedWeight>> PackGated(
      const HostMatrix& gate, const HostMatrix& up) {
    return PackWeight({gate, up});
  }
  // The weights [n, k] of `num_experts` experts, stacked one behind the other,
  // for ExpertGemm(): n() is an expert's. REQUIRES: the rows divide evenly.
  // Unimplemented where there are no mixtures of experts.
  virtual absl::StatusOr<std::unique_ptr<PackedWeight>> PackExperts(
      absl::Span<const HostMatrix> /*stacked*/, int32_t /*num_experts*/) {
    return NoExperts();
  }
  // Rows as they are, converted to T (embeddings, norms, biases).
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const HostMatrix> stacked) = 0;

  // One method per operation; the parameter structs are the contracts.
  virtual absl::Status Gemm(const GemmParams& params) = 0;
  // Whether Gemm() takes GemmParams::adds.
  virtual bool adds_products() const { return false; }
  // Whether Gemm() takes these GemmParams::peers.
  virtual bool CanSend(const GemmParams& /*params*/) const { return false; }
  // Whether Gemm() takes a norm_after with these GemmParams, and Gemm() with
  // `next`, or GatedGemm() if `is_gated`, its norm_before for as many rows.
  virtual bool CanFoldNorm(const GemmParams& /*params*/,
                           const PackedWeight& /*next*/,
                           bool /*is_gated*/) const {
    return false;
  }
  // By default Gemm() and Activation().
  virtual absl::Status GatedGemm(const GatedGemmParams& params);
  virtual absl::Status Embedding(const EmbeddingParams& params) = 0;
  virtual absl::Status AddRows(const AddRowsParams& params) = 0;
  virtual absl::Status GatherRows(const GatherRowsParams& params) = 0;
  virtual absl::Status Norm(const NormParams& params) = 0;
  virtual absl::Status Add(const AddParams& params) = 0;
  virtual absl::Status Activation(const ActivationParams& params) = 0;
  // Mixtures of experts; Unimplemented where PackExperts() is.
  virtual absl::Status RouteTokens(const RouteTokensParams& /*params*/) {
    return NoExperts();
  }
  virtual absl::Status ExpertGemm(const ExpertGemmParams& /*params*/) {
    return NoExperts();
  }
  virtual absl::Status CombineExperts(const CombineExpertsParams& /*params*/) {
    return NoExperts();
  }
  // The order that Attention() reads fastest in a cache of blocks otherwise
  // like `layout`. RopeWriteKv() and Attention() take kHeads and kTokens, too.
  virtual KvOrder kv_order(const KvLayout& /*layout*/) const {
    return KvOrder::kHeads;
  }
  virtual absl::Status RopeWriteKv(const RopeWriteKvParams& params) = 0;
  // Unimplemented where attention cannot choose pages
  // (AttentionParams::sparse).
  virtual absl::Status UpdateKeyBounds(
      const UpdateKeyBoundsParams& /*params*/) {
    return absl::UnimplementedError(name() + " keeps no bounds of keys");
  }
  virtual absl::Status Attention(const AttentionParams& params) = 0;
  // By default the operations that it stands for, one after the other. Leaves
  // queries, keys and values in params.write.qkv rotated or as they were.
  virtual absl::Status AttendNewTokens(const AttendNewTokensParams& params);
  // Device to device, device to host pool and back.
  virtual absl::Status CopyBlocks(const BlockCopyParams& params) = 0;
  virtual absl::Status SwapOutBlocks(const BlockCopyParams& params) = 0;
  virtual absl::Status SwapInBlocks(const BlockCopyParams& params) = 0;
  virtual absl::Status SampleShard(const SampleShardParams& params) = 0;
  virtual absl::Status ChooseTokens(const ChooseTokensParams& params) = 0;
  virtual absl::Status MergeChoices(const MergeChoicesParams& params) = 0;
  virtual absl::Status CopyRuns(const CopyRunsParams& params) = 0;
  // Whether the device chooses tokens of whatever row, so that a step's tokens
  // need no host. Where it does not, as on CPUs, nobody calls the eight below.
  virtual bool chooses_shaped() const { return false; }
  virtual absl::Status ChooseShaped(const ShapedChoiceParams& /*params*/) {
    return ChoosesPlainRows();
  }
  // What ChooseShaped() does first and last with edited rows, of a shard: the
  // edits alone, and, once the rows' tokens are chosen, the count of those and
  // the way back of logits that were saved.
  virtual absl::Status EditLogits(const EditLogitsParams& /*params*/) {
    return ChoosesPlainRows();
  }
  // What is between, if edits of a shard have masks.
  virtual absl::Status MaskLogits(const MaskLogitsParams& /*params*/) {
    return ChoosesPlainRows();
  }
  virtual absl::Status FinishEdits(const EditLogitsParams& /*params*/) {
    return ChoosesPlainRows();
  }
  // Tokens of rows that a group's devices choose from among themselves.
  virtual absl::Status ListTokens(const ListTokensParams& /*params*/) {
    return ChoosesPlainRows();
  }
  virtual absl::Status MergeLists(const MergeListsParams& /*params*/) {
    return ChoosesPlainRows();
  }
  virtual absl::Status ChooseFromNuclei(const NucleusParams& /*params*/) {
    return ChoosesPlainRows();
  }
  // And the log probabilities of those.
  virtual absl::Status TakeShardLogprobs(
      const ShardLogprobsParams& /*params*/) {
    return ChoosesPlainRows();
  }

  // Whether operations return before they ran, so that the caller gains by
  // enqueueing a step while the one before runs.
  virtual bool is_asynchronous() const { return false; }

  // Remembers the operations that `enqueue` calls, with their arguments, for
  // Replay() to run again over the same buffers: on a device where launching
  // costs more than running, as one launch. Whether they run now, too, is the
  // backend's choice. REQUIRES: the same operations have run before, so that
  // nothing is allocated or measured; the buffers outlive the recording.
  virtual absl::StatusOr<std::unique_ptr<Recording>> Record(
      std::function<absl::Status()> enqueue);
  virtual absl::Status Replay(Recording* recording);

  // Marks where a step's own work begins: the device's idleness before it is
  // from the end of the step before until here.
  virtual absl::Status MarkBegin(int32_t /*index*/) { return absl::OkStatus(); }
  // From Mark(before) to MarkBegin(index), in seconds, or 0 if it is not
  // measured. REQUIRES: both have been reached.
  virtual double IdleSeconds(int32_t /*before*/, int32_t /*index*/) {
    return 0;
  }
  // Marks the end of what has been enqueued; `index` is in [0, kNumMarks).
  static constexpr int32_t kNumMarks = 4;
  virtual absl::Status Mark(int32_t /*index*/) { return absl::OkStatus(); }
  // Returns when the last Mark(index) has been reached, with the error that
  // prevented it. Any thread may wait, while another enqueues.
  virtual absl::Status WaitForMark(int32_t /*index*/) {
    return absl::OkStatus();
  }

  // What operations have taken since the last call, where a backend was made to
  // measure that; else nothing. Recorded ones are not measured.
  virtual std::vector<OperationTime> TakeOperationTimes() { return {}; }

 private:
  absl::Status NoExperts() const {
    return absl::UnimplementedError(name() + " has no mixtures of experts");
  }
  absl::Status ChoosesPlainRows() const {
    return absl::UnimplementedError(name() + " chooses plain rows only");
  }
};

}  // namespace quire

#endif  // KERNELS_BACKEND_H_
