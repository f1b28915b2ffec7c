// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/fakes/fake_backend.h"

#include <cstdlib>
#include <cstring>

#include "kernels/cpu/choose_tokens.h"
#include "kernels/cpu/sample.h"
#include "tests/reference/listed_choice.h"
#include "tests/reference/shaped_choice.h"

namespace quire {
namespace {

class MallocBuffer final : public DeviceBuffer {
 public:
  // Filled with a pattern, so that reading what was never written shows.
  explicit MallocBuffer(int64_t bytes)
      : DeviceBuffer(std::aligned_alloc(64, (bytes + 64) / 64 * 64), bytes) {
    std::memset(data(), 0xa5, bytes);
  }
  ~MallocBuffer() override { std::free(data()); }
};

absl::Status MoveBlocks(const BlockCopyParams& params) {
  for (int32_t i = 0; i < params.num_pairs; ++i) {
    std::memcpy(static_cast<char*>(params.dst) +
                    params.pairs[i].dst * params.block_bytes,
                static_cast<const char*>(params.src) +
                    params.pairs[i].src * params.block_bytes,
                params.block_bytes);
  }
  return absl::OkStatus();
}

}  // namespace

FakeBackend::FakeBackend(MemoryInfo memory) : memory_(memory) {}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> FakeBackend::Allocate(
    int64_t bytes) {
  if (const absl::Status lost = device(); !lost.ok()) return lost;
  if (bytes > memory_.total_bytes) {
    return absl::ResourceExhaustedError("the fake device is not that large");
  }
  allocated_bytes_ += bytes;
  return std::make_unique<MallocBuffer>(bytes);
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> FakeBackend::AllocateHost(
    int64_t bytes) {
  return Allocate(bytes);
}

absl::Status FakeBackend::CopyToDevice(const void* host, void* device,
                                       int64_t bytes) {
  ++num_copies_to_device_;
  std::memcpy(device, host, bytes);
  return absl::OkStatus();
}

absl::Status FakeBackend::CopyToHost(const void* device, void* host,
                                     int64_t bytes) {
  std::memcpy(host, device, bytes);
  return absl::OkStatus();
}

absl::Status FakeBackend::CopyBlocks(const BlockCopyParams& params) {
  return MoveBlocks(params);
}
absl::Status FakeBackend::SwapOutBlocks(const BlockCopyParams& params) {
  return MoveBlocks(params);
}
absl::Status FakeBackend::SwapInBlocks(const BlockCopyParams& params) {
  return MoveBlocks(params);
}

absl::Status FakeBackend::SampleShard(const SampleShardParams& params) {
  SampleShardCpu(params, team_, &scratch_);
  return absl::OkStatus();
}

absl::Status FakeBackend::ChooseTokens(const ChooseTokensParams& params) {
  ChooseTokensCpu(params, team_, &scratch_);
  return absl::OkStatus();
}

absl::Status FakeBackend::MergeChoices(const MergeChoicesParams& params) {
  MergeChoicesCpu(params);
  return absl::OkStatus();
}

absl::Status FakeBackend::ChooseShaped(const ShapedChoiceParams& params) {
  reference::ShapedChoice(params);
  return device();
}

absl::Status FakeBackend::ListTokens(const ListTokensParams& params) {
  reference::ListTokens(params);
  return device();
}

absl::Status FakeBackend::MergeLists(const MergeListsParams& params) {
  reference::MergeLists(params);
  return device();
}

absl::Status FakeBackend::CopyRuns(const CopyRunsParams& params) {
  ++num_fetches_;
  for (int32_t i = 0; i < params.num_runs; ++i) {
    const WordRun& run = params.runs[i];
    std::memcpy(params.out + run.to, params.values + run.from,
                run.count * sizeof(int32_t));
  }
  return absl::OkStatus();
}

}  // namespace quire
