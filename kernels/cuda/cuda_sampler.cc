// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_sampler.h"

#include <algorithm>
#include <cstring>

#include "common/status_macros.h"
#include "kernels/cpu/sample.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_wait.h"
#include "kernels/cuda/sample.h"

namespace quire {
namespace {

constexpr float kGreedyTemperature = 1e-5f;
constexpr char kOperation[] = "sampling";

int64_t Align(int64_t bytes) { return (bytes + 15) / 16 * 16; }

// Sections of the input: rows, seen tokens, masked ids.
struct InputSections {
  int64_t seen, masked, end;
};

InputSections SectionsOf(const SampleShardParams& params) {
  int64_t num_seen = 0, num_masked = 0;
  for (int32_t i = 0; i < params.num_rows; ++i) {
    num_seen += params.rows[i].num_seen;
    num_masked += params.rows[i].num_masked;
  }
  InputSections sections;
  sections.seen = Align(params.num_rows * int64_t{sizeof(CudaSampleRow)});
  sections.masked =
      sections.seen + Align(num_seen * int64_t{sizeof(SeenToken)});
  sections.end = sections.masked + Align(num_masked * int64_t{sizeof(int32_t)});
  return sections;
}

// Writes all sections; returns how many tokens the lists hold.
int32_t FillInput(const SampleShardParams& params,
                  const InputSections& sections, char* base) {
  auto* rows = reinterpret_cast<CudaSampleRow*>(base);
  auto* seen = reinterpret_cast<SeenToken*>(base + sections.seen);
  auto* masked = reinterpret_cast<int32_t*>(base + sections.masked);
  int32_t num_seen = 0, num_masked = 0;
  for (int32_t i = 0; i < params.num_rows; ++i) {
    const SampleRow& row = params.rows[i];
    const bool is_greedy = row.temperature < kGreedyTemperature;
    rows[i] = {row.seed,
               row.position,
               is_greedy ? 1.0f : row.temperature,
               is_greedy,
               row.presence_penalty,
               row.frequency_penalty,
               row.repetition_penalty,
               num_seen,
               row.num_seen,
               num_masked,
               row.num_masked};
    std::copy_n(row.seen, row.num_seen, seen + num_seen);
    std::copy_n(row.masked, row.num_masked, masked + num_masked);
    num_seen += row.num_seen;
    num_masked += row.num_masked;
  }
  return num_seen + num_masked;
}

// What the kernels do not know of.
bool IsForHost(const SampleRow& row) {
  return row.num_biases > 0 || row.allowed != nullptr || row.is_scored != 0;
}

}  // namespace

CudaSampler::CudaSampler(cudaStream_t stream, DeviceWait wait)
    : stream_(stream), wait_(wait), one_thread_(1), scratch_(1) {}

absl::Status CudaSampler::Reserve(const SampleShardParams& params,
                                  int64_t input_bytes) {
  const int64_t device_candidates =
      std::min(params.num_candidates, kMaxCudaCandidates);
  const int64_t output_bytes =
      params.num_rows * (int64_t{sizeof(ShardSummary)} + sizeof(int32_t) +
                         device_candidates * int64_t{sizeof(Candidate)});
  QUIRE_RETURN_IF_ERROR(GrowBuffer(input_bytes, AllocatePinned, &host_input_));
  QUIRE_RETURN_IF_ERROR(GrowBuffer(input_bytes, AllocateCuda, &input_));
  QUIRE_RETURN_IF_ERROR(
      GrowBuffer(output_bytes, AllocatePinned, &host_output_));
  QUIRE_RETURN_IF_ERROR(GrowBuffer(output_bytes, AllocateCuda, &output_));
  return GrowBuffer(CudaSampleWorkspaceBytes(params.num_rows, params.num_vocab),
                    AllocateCuda, &workspace_);
}

absl::Status CudaSampler::FinishOnHost(const SampleShardParams& params,
                                       int32_t row_idx) {
  host_logits_.resize(params.num_vocab);
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaMemcpy(host_logits_.data(),
                 params.logits + row_idx * int64_t{params.num_vocab},
                 params.num_vocab * sizeof(float), cudaMemcpyDeviceToHost),
      kOperation);
  // The device's own is kept where it knows the row's.
  ShardSummary unused;
  SampleShardParams row = params;
  row.logits = host_logits_.data();
  row.num_rows = 1;
  row.rows = params.rows + row_idx;
  row.summaries = IsForHost(*row.rows) ? params.summaries + row_idx : &unused;
  row.candidates = params.candidates + row_idx * int64_t{params.num_candidates};
  SampleShardCpu(row, one_thread_, &scratch_);
  return absl::OkStatus();
}

absl::Status CudaSampler::Run(const SampleShardParams& params) {
  if (params.num_rows <= 0) return absl::OkStatus();
  const InputSections sections = SectionsOf(params);
  QUIRE_RETURN_IF_ERROR(Reserve(params, sections.end));
  CudaSampleParams device = {};
  device.num_listed = FillInput(params, sections, host_input_->as<char>());
  device.logits = params.logits;
  device.first_id = params.first_id;
  device.num_vocab = params.num_vocab;
  device.num_rows = params.num_rows;
  device.num_candidates =
      params.num_candidates <= kMaxCudaCandidates ? params.num_candidates : 0;
  device.rows = input_->as<CudaSampleRow>();
  device.seen =
      reinterpret_cast<const SeenToken*>(input_->as<char>() + sections.seen);
  device.masked =
      reinterpret_cast<const int32_t*>(input_->as<char>() + sections.masked);
  const int64_t num_candidates =
      int64_t{params.num_rows} * device.num_candidates;
  const auto split = [&](DeviceBuffer& buffer, ShardSummary** summaries,
                         int32_t** overflowed, Candidate** candidates) {
    *summaries = buffer.as<ShardSummary>();
    *overflowed = reinterpret_cast<int32_t*>(*summaries + params.num_rows);
    *candidates = reinterpret_cast<Candidate*>(*overflowed + params.num_rows);
  };
  split(*output_, &device.summaries, &device.overflowed, &device.candidates);
  device.workspace = workspace_->data();

  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(input_->data(), host_input_->data(), sections.end,
                      cudaMemcpyHostToDevice, stream_),
      kOperation);
  QUIRE_RETURN_IF_CUDA_ERROR(LaunchSampleShardCuda(device, stream_),
                             kOperation);
  int64_t output_bytes = params.num_rows * int64_t{sizeof(ShardSummary)};
  if (num_candidates > 0) {
    output_bytes += params.num_rows * int64_t{sizeof(int32_t)} +
                    num_candidates * int64_t{sizeof(Candidate)};
  }
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(host_output_->data(), output_->data(), output_bytes,
                      cudaMemcpyDeviceToHost, stream_),
      kOperation);
  QUIRE_RETURN_IF_CUDA_ERROR(WaitForStream(stream_, wait_), kOperation);

  ShardSummary* summaries;
  int32_t* overflowed;
  Candidate* candidates;
  split(*host_output_, &summaries, &overflowed, &candidates);
  std::copy_n(summaries, params.num_rows, params.summaries);
  std::copy_n(candidates, num_candidates, params.candidates);
  for (int32_t i = 0; i < params.num_rows; ++i) {
    const bool is_done = params.num_candidates <= 0 ||
                         (device.num_candidates > 0 && !overflowed[i]);
    if (is_done && !IsForHost(params.rows[i])) continue;
    QUIRE_RETURN_IF_ERROR(FinishOnHost(params, i));
  }
  return absl::OkStatus();
}

}  // namespace quire
