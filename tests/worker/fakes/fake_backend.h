// SPDX-License-Identifier: Apache-2.0
//
// A device that is plain host memory and knows only what is not arithmetic of
// models: copies, block moves and sampling.
#ifndef TESTS_WORKER_FAKES_FAKE_BACKEND_H_
#define TESTS_WORKER_FAKES_FAKE_BACKEND_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "kernels/backend.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_team.h"

namespace quire {

class FakeBackend final : public Backend {
 public:
  explicit FakeBackend(MemoryInfo memory = {1 << 30, 1 << 29});

  std::string name() const override { return name_; }
  DType dtype() const override { return DType::kF32; }
  DType partial_dtype() const override { return DType::kF32; }
  absl::StatusOr<MemoryInfo> GetMemoryInfo() override { return memory_; }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(
      int64_t bytes) override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateHost(
      int64_t bytes) override;
  absl::Status CopyToDevice(const void* host, void* device,
                            int64_t bytes) override;
  absl::Status CopyToHost(const void* device, void* host,
                          int64_t bytes) override;
  absl::Status Synchronize() override;
  absl::Status Mark(int32_t index) override;
  absl::Status WaitForMark(int32_t index) override;

  absl::StatusOr<std::unique_ptr<PackedWeight>> PackWeight(
      absl::Span<const HostMatrix>) override {
    return Nothing();
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const HostMatrix>) override {
    return Nothing();
  }
  absl::Status Gemm(const GemmParams&) override { return Nothing(); }
  absl::Status Embedding(const EmbeddingParams&) override { return Nothing(); }
  absl::Status AddRows(const AddRowsParams&) override { return Nothing(); }
  absl::Status GatherRows(const GatherRowsParams&) override {
    return Nothing();
  }
  absl::Status Norm(const NormParams&) override { return Nothing(); }
  absl::Status Add(const AddParams&) override { return Nothing(); }
  absl::Status Activation(const ActivationParams&) override {
    return Nothing();
  }
  absl::Status RopeWriteKv(const RopeWriteKvParams&) override {
    return Nothing();
  }
  absl::Status Attention(const AttentionParams&) override { return Nothing(); }
  absl::Status CopyBlocks(const BlockCopyParams& params) override;
  absl::Status SwapOutBlocks(const BlockCopyParams& params) override;
  absl::Status SwapInBlocks(const BlockCopyParams& params) override;
  absl::Status SampleShard(const SampleShardParams& params) override;
  absl::Status ChooseTokens(const ChooseTokensParams& params) override;
  absl::Status MergeChoices(const MergeChoicesParams& params) override;
  absl::Status CopyRuns(const CopyRunsParams& params) override;

  bool chooses_shaped() const override { return chooses_shaped_; }
  absl::Status ChooseShaped(const ShapedChoiceParams& params) override;
  absl::Status EditLogits(const EditLogitsParams& params) override;
  absl::Status MaskLogits(const MaskLogitsParams& params) override;
  absl::Status FinishEdits(const EditLogitsParams& params) override;
  absl::Status ListTokens(const ListTokensParams& params) override;
  absl::Status MergeLists(const MergeListsParams& params) override;
  absl::Status ChooseFromNuclei(const NucleusParams& params) override;
  absl::Status TakeShardLogprobs(const ShardLogprobsParams& params) override;

  bool is_asynchronous() const override { return is_asynchronous_; }

  // Says that it is, and runs everything at once all the same.
  void set_asynchronous() { is_asynchronous_ = true; }
  // From now on nothing runs before the host waits for it, so that memory shows
  // which the host reads too early or uses again too early. One thread alone
  // calls a late device, to wait as well.
  void set_late() { is_asynchronous_ = is_late_ = true; }
  // Runs `work` in its turn among the device's operations.
  void Enqueue(std::function<void()> work);
  // Chooses from all rows, as the reference does.
  void set_chooses_shaped() { chooses_shaped_ = true; }
  // From now on the device is lost. Any thread may say so.
  void Break(const absl::Status& cause) {
    absl::MutexLock lock(&mutex_);
    device_ = cause;
  }
  void set_name(const std::string& name) { name_ = name; }
  int32_t num_copies_to_device() const { return num_copies_to_device_; }
  // Calls of CopyRuns().
  int32_t num_fetches() const { return num_fetches_; }
  int64_t allocated_bytes() const { return allocated_bytes_; }

 private:
  static absl::Status Nothing() {
    return absl::UnimplementedError("the fake device computes no models");
  }

  int64_t num_enqueued() const {
    return num_run_ + static_cast<int64_t>(waiting_.size());
  }
  // Runs what is left of the first `end` operations.
  void RunUntil(int64_t end);

  absl::Status device() {
    absl::MutexLock lock(&mutex_);
    return device_;
  }

  std::string name_ = "fake";
  bool is_asynchronous_ = false;
  bool is_late_ = false;
  std::deque<std::function<void()>> waiting_;  // of a late device
  int64_t num_run_ = 0;                        // that were waiting
  int64_t marks_[kNumMarks] = {};              // num_enqueued() of each
  bool chooses_shaped_ = false;
  absl::Mutex mutex_;
  absl::Status device_ ABSL_GUARDED_BY(mutex_);
  const MemoryInfo memory_;
  int32_t num_copies_to_device_ = 0;
  int32_t num_fetches_ = 0;
  int64_t allocated_bytes_ = 0;
  ThreadTeam team_{1};
  ThreadScratch scratch_{1};
};

}  // namespace quire

#endif  // TESTS_WORKER_FAKES_FAKE_BACKEND_H_
