// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/step_recordings.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {

std::vector<int32_t> RecordedSizes(int32_t max_num_seqs) {
  std::vector<int32_t> sizes;
  for (int32_t size = 1; size < max_num_seqs;) {
    sizes.push_back(size);
    if (size < 8) {
      size *= 2;
    } else {
      // An eighth of the power of two below, and eight rows at least.
      int32_t power = 8;
      while (power * 2 <= size) power *= 2;
      size += std::max(8, power / 8);
    }
  }
  sizes.push_back(max_num_seqs);
  return sizes;
}

absl::StatusOr<std::unique_ptr<StepRecordings>> StepRecordings::Create(
    Backend* backend, InputBuilder* builder, int32_t max_num_seqs,
    EnqueueStep enqueue) {
  auto recordings =
      absl::WrapUnique(new StepRecordings(backend, std::move(enqueue)));
  const EnqueueStep& run = recordings->enqueue_;
  // The largest first, so that what a device measures for several sizes is
  // measured on the largest of them.
  std::vector<int32_t> sizes = RecordedSizes(max_num_seqs);
  std::reverse(sizes.begin(), sizes.end());
  for (int32_t size : sizes) {
    QUIRE_ASSIGN_OR_RETURN(const BatchInput batch,
                           builder->BuildPadding(size, size));
    QUIRE_ASSIGN_OR_RETURN(const float* logits, run(batch));
    QUIRE_RETURN_IF_ERROR(backend->Synchronize());
    QUIRE_ASSIGN_OR_RETURN(auto recording, backend->Record([&run, batch] {
      return run(batch).status();
    }));
    recordings->steps_.push_back({size, logits, std::move(recording)});
  }
  std::reverse(recordings->steps_.begin(), recordings->steps_.end());
  return recordings;
}

std::vector<StepRecordings::Step>::const_iterator StepRecordings::Find(
    int32_t num_seqs) const {
  const auto it = std::lower_bound(
      steps_.begin(), steps_.end(), num_seqs,
      [](const Step& step, int32_t size) { return step.size < size; });
  CHECK(it != steps_.end()) << num_seqs;
  return it;
}

int32_t StepRecordings::SizeFor(int32_t num_seqs) const {
  return Find(num_seqs)->size;
}

absl::StatusOr<const float*> StepRecordings::Replay(int32_t size) {
  const auto it = Find(size);
  CHECK_EQ(it->size, size);
  QUIRE_RETURN_IF_ERROR(backend_->Replay(it->recording.get()));
  return it->logits;
}

absl::Status WarmUpSteps(Backend* backend, InputBuilder* builder,
                         int32_t max_num_tokens, const EnqueueStep& enqueue) {
  std::vector<int32_t> sizes;
  for (int32_t size = 1; size < max_num_tokens;) {
    sizes.push_back(size);
    int32_t power = 1;
    while (power * 2 <= size) power *= 2;
    // By 128 at most up to 2,048 tokens: the rows of a matrix unit's tile.
    const int32_t share = power < 32     ? power
                          : power < 256  ? power / 2
                          : power == 256 ? power / 8
                                         : power / 4;
    size += power == 1024 ? 128 : share;
  }
  sizes.push_back(max_num_tokens);
  for (int32_t size : sizes) {
    QUIRE_ASSIGN_OR_RETURN(const BatchInput batch,
                           builder->BuildPadding(size, /*num_seqs=*/1));
    QUIRE_RETURN_IF_ERROR(enqueue(batch).status());
    QUIRE_RETURN_IF_ERROR(backend->Synchronize());
  }
  return absl::OkStatus();
}

}  // namespace quire
