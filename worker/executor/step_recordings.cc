// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/step_recordings.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr int32_t kPromptStep = 16;
constexpr int32_t kMaxPrompt = 128;
// Shorter ones are decodes to attention.
constexpr int32_t kMinPrompt = 9;

// The first of so many tokens or more, or the end.
template <typename Steps>
auto FindStep(const Steps& steps, int32_t num_tokens) {
  return std::lower_bound(steps.begin(), steps.end(), num_tokens,
                          [](const auto& step, int32_t tokens) {
                            return step.size.num_tokens < tokens;
                          });
}

}  // namespace

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

std::vector<int32_t> RecordedPrompts(int32_t max_num_tokens) {
  std::vector<int32_t> sizes;
  for (int32_t size = kPromptStep; size <= std::min(max_num_tokens, kMaxPrompt);
       size += kPromptStep) {
    sizes.push_back(size);
  }
  return sizes;
}

int64_t StepRecordings::CountFor(int32_t max_num_seqs, int32_t max_num_tokens) {
  return RecordedSizes(max_num_seqs).size() +
         RecordedPrompts(max_num_tokens).size();
}

absl::Status StepRecordings::Record(const StepSize& size, InputBuilder* builder,
                                    Steps* steps) {
  QUIRE_ASSIGN_OR_RETURN(const BatchInput batch, builder->BuildPadding(size));
  QUIRE_ASSIGN_OR_RETURN(const float* logits, enqueue_(batch));
  QUIRE_RETURN_IF_ERROR(backend_->Synchronize());
  QUIRE_ASSIGN_OR_RETURN(auto recording, backend_->Record([this, batch] {
    return enqueue_(batch).status();
  }));
  steps->push_back({size, logits, std::move(recording)});
  return absl::OkStatus();
}

absl::Status StepRecordings::RecordOrSayWhy(const StepSize& size,
                                            InputBuilder* builder,
                                            Steps* steps) {
  absl::Status status = Record(size, builder, steps);
  if (!absl::IsResourceExhausted(status)) return status;
  return absl::ResourceExhaustedError(absl::StrCat(
      "no memory is left for recordings of steps, of which ",
      decodes_.size() + prompts_.size(), " were made: ", status.message(),
      "; lower --memory_utilization, or --num_gpu_blocks_override if it is "
      "set"));
}

absl::StatusOr<std::unique_ptr<StepRecordings>> StepRecordings::Create(
    Backend* backend, InputBuilder* builder, int32_t max_num_seqs,
    int32_t max_num_tokens, EnqueueStep enqueue) {
  auto recordings =
      absl::WrapUnique(new StepRecordings(backend, std::move(enqueue)));
  // The largest first, so that what a device measures for several sizes is
  // measured on the largest of them.
  std::vector<int32_t> sizes = RecordedSizes(max_num_seqs);
  std::reverse(sizes.begin(), sizes.end());
  for (int32_t size : sizes) {
    QUIRE_RETURN_IF_ERROR(recordings->RecordOrSayWhy(
        {.num_tokens = size, .num_seqs = size, .min_new_tokens = 1}, builder,
        &recordings->decodes_));
  }
  std::reverse(recordings->decodes_.begin(), recordings->decodes_.end());
  int32_t least = kMinPrompt;
  for (int32_t size : RecordedPrompts(max_num_tokens)) {
    QUIRE_RETURN_IF_ERROR(recordings->RecordOrSayWhy(
        {.num_tokens = size, .num_seqs = 1, .min_new_tokens = least}, builder,
        &recordings->prompts_));
    least = size + 1;
  }
  return recordings;
}

StepSize StepRecordings::SizeFor(const StepPlan& plan) const {
  if (plan.chunks.empty()) {
    const auto it =
        FindStep(decodes_, static_cast<int32_t>(plan.decodes.size()));
    CHECK(it != decodes_.end()) << plan.decodes.size();
    return it->size;
  }
  if (!plan.decodes.empty() || plan.chunks.size() > 1) return {};
  const Slice& prompt = plan.chunks.front();
  const auto it = FindStep(prompts_, prompt.num_tokens);
  if (it == prompts_.end() || !prompt.sample ||
      prompt.num_tokens < it->size.min_new_tokens) {
    return {};
  }
  return it->size;
}

absl::StatusOr<const float*> StepRecordings::Replay(const StepSize& size) {
  const bool is_prompt = size.min_new_tokens > 1;
  const Steps& steps = is_prompt ? prompts_ : decodes_;
  const auto it = FindStep(steps, size.num_tokens);
  CHECK(it != steps.end() && it->size.num_tokens == size.num_tokens);
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
                           builder->BuildPadding({size, /*num_seqs=*/1}));
    QUIRE_RETURN_IF_ERROR(enqueue(batch).status());
    QUIRE_RETURN_IF_ERROR(backend->Synchronize());
  }
  return absl::OkStatus();
}

}  // namespace quire
