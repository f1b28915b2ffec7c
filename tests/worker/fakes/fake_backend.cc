// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/fakes/fake_backend.h"

#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "glog/logging.h"
#include "kernels/cpu/choose_tokens.h"
#include "kernels/cpu/sample.h"
#include "tests/reference/listed_choice.h"
#include "tests/reference/nucleus_choice.h"
#include "tests/reference/shaped_choice.h"
#include "tests/reference/shard_logprobs.h"

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

void FakeBackend::Enqueue(std::function<void()> work) {
  if (is_late_) {
    waiting_.push_back(std::move(work));
  } else {
    work();
  }
}

void FakeBackend::RunUntil(int64_t end) {
  for (; num_run_ < end; ++num_run_) {
    const std::function<void()> work = std::move(waiting_.front());
    waiting_.pop_front();
    work();
  }
}

absl::Status FakeBackend::Synchronize() {
  RunUntil(num_enqueued());
  return device();
}

absl::Status FakeBackend::Mark(int32_t index) {
  if (is_late_) marks_[index] = num_enqueued();  // else others may wait now
  return device();
}

absl::Status FakeBackend::WaitForMark(int32_t index) {
  RunUntil(marks_[index]);
  return device();
}

absl::Status FakeBackend::CopyToDevice(const void* host, void* device,
                                       int64_t bytes) {
  ++num_copies_to_device_;
  return CopyToHost(host, device, bytes);
}

absl::Status FakeBackend::CopyToHost(const void* device, void* host,
                                     int64_t bytes) {
  Enqueue([=] { std::memcpy(host, device, bytes); });
  return absl::OkStatus();
}

absl::Status FakeBackend::CopyBlocks(const BlockCopyParams& params) {
  // The pairs are the host's, and read before this returns.
  const std::vector<BlockPair> pairs(params.pairs,
                                     params.pairs + params.num_pairs);
  Enqueue([params, pairs] {
    for (const BlockPair& pair : pairs) {
      std::memcpy(
          static_cast<char*>(params.dst) + pair.dst * params.block_bytes,
          static_cast<const char*>(params.src) + pair.src * params.block_bytes,
          params.block_bytes);
    }
  });
  return absl::OkStatus();
}
absl::Status FakeBackend::SwapOutBlocks(const BlockCopyParams& params) {
  return CopyBlocks(params);
}
absl::Status FakeBackend::SwapInBlocks(const BlockCopyParams& params) {
  return CopyBlocks(params);
}

absl::Status FakeBackend::SampleShard(const SampleShardParams& params) {
  // As its parameters say, the results are there when this returns.
  RunUntil(num_enqueued());
  SampleShardCpu(params, team_, &scratch_);
  return absl::OkStatus();
}

absl::Status FakeBackend::ChooseTokens(const ChooseTokensParams& params) {
  Enqueue([this, params] { ChooseTokensCpu(params, team_, &scratch_); });
  return absl::OkStatus();
}

absl::Status FakeBackend::MergeChoices(const MergeChoicesParams& params) {
  Enqueue([params] { MergeChoicesCpu(params); });
  return absl::OkStatus();
}

absl::Status FakeBackend::ChooseShaped(const ShapedChoiceParams& params) {
  Enqueue([params] {
    for (int32_t i = 0; i < params.num_filtered && params.all_have_top_k; ++i) {
      CHECK_GT(params.rows[params.num_unfiltered + i].top_k, 0);
    }
    reference::ShapedChoice(params);
  });
  return device();
}

absl::Status FakeBackend::EditLogits(const EditLogitsParams& params) {
  Enqueue([params] { reference::EditLogits(params); });
  return device();
}

absl::Status FakeBackend::MaskLogits(const MaskLogitsParams& params) {
  Enqueue([params] { reference::MaskLogits(params); });
  return device();
}

absl::Status FakeBackend::FinishEdits(const EditLogitsParams& params) {
  Enqueue([params] { reference::FinishEdits(params); });
  return device();
}

absl::Status FakeBackend::ListTokens(const ListTokensParams& params) {
  Enqueue([params] { reference::ListTokens(params); });
  return device();
}

absl::Status FakeBackend::MergeLists(const MergeListsParams& params) {
  Enqueue([params] { reference::MergeLists(params); });
  return device();
}

absl::Status FakeBackend::ChooseFromNuclei(const NucleusParams& params) {
  Enqueue([params] { reference::ChooseFromNuclei(params); });
  return device();
}

absl::Status FakeBackend::TakeShardLogprobs(const ShardLogprobsParams& params) {
  Enqueue([params] { reference::TakeShardLogprobs(params); });
  return device();
}

absl::Status FakeBackend::CopyRuns(const CopyRunsParams& params) {
  ++num_fetches_;
  Enqueue([params] {
    for (int32_t i = 0; i < params.num_runs; ++i) {
      const WordRun& run = params.runs[i];
      std::memcpy(params.out + run.to, params.values + run.from,
                  run.count * sizeof(int32_t));
    }
  });
  return absl::OkStatus();
}

}  // namespace quire
