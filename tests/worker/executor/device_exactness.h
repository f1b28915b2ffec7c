// SPDX-License-Identifier: Apache-2.0
//
// Whether a device's tokens depend on who else is computed, or on what is
// computed again.
#ifndef TESTS_WORKER_EXECUTOR_DEVICE_EXACTNESS_H_
#define TESTS_WORKER_EXECUTOR_DEVICE_EXACTNESS_H_

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "gtest/gtest.h"
#include "tests/worker/executor/demo_executor.h"

namespace quire {

// One sequence of GenerateAgain().
struct Sequence {
  std::vector<TokenId> tokens;  // prompt, then outputs
  int32_t computed = 0;
  int32_t seated = 0;  // how often
  bool has_seat = false;
};

inline AdmittedSlot Readmit(int32_t slot, const Sequence& sequence,
                            int32_t num_prompt_tokens) {
  AdmittedSlot admitted;
  admitted.slot = SlotId(slot);
  admitted.tokens = sequence.tokens;
  admitted.num_prompt_tokens = num_prompt_tokens;
  admitted.sampling.temperature = 0;
  // Other blocks than the last time.
  const int32_t first = (2 * slot + sequence.seated % 2) * kBlocksPerSeq;
  std::vector<BlockId> blocks;
  for (int32_t b = kBlocksPerSeq - 1; b >= 0; --b) {
    blocks.push_back(BlockId(first + b));
  }
  admitted.cache = std::move(blocks);
  return admitted;
}

// As Generate(), but every `period` steps a sequence, each in its turn, loses
// its seat and is computed again, outputs included, beside the others.
// REQUIRES: at most 16 samples.
inline absl::StatusOr<std::vector<std::vector<TokenId>>> GenerateAgain(
    Executor* executor, const std::vector<Sample>& samples, int32_t chunk_size,
    int32_t period) {
  const auto n = static_cast<int32_t>(samples.size());
  std::vector<Sequence> sequences(n);
  for (int32_t i = 0; i < n; ++i) sequences[i].tokens = samples[i].prompt;
  const auto size_of = [&](int32_t i) {
    return static_cast<int32_t>(sequences[i].tokens.size());
  };
  const auto prompt_of = [&](int32_t i) {
    return static_cast<int32_t>(samples[i].prompt.size());
  };
  const auto has_ended = [&](int32_t i) {
    return size_of(i) ==
           prompt_of(i) + static_cast<int32_t>(samples[i].output.size());
  };
  for (int32_t step = 1;; ++step) {
    StepPlan plan;
    const int32_t victim = step % period == 0 ? step / period % n : -1;
    std::vector<int32_t> sampled, chunked;
    for (int32_t i = 0; i < n; ++i) {
      Sequence& own = sequences[i];
      if (own.has_seat && (i == victim || has_ended(i))) {
        plan.released.push_back(SlotId(i));
        own.has_seat = false;
        own.computed = 0;
        continue;
      }
      if (has_ended(i)) continue;
      if (!own.has_seat) {
        own.has_seat = true;
        ++own.seated;
        plan.admitted.push_back(Readmit(i, own, prompt_of(i)));
      }
      const int32_t left = size_of(i) - own.computed;
      const int32_t tokens = std::min(chunk_size, left);
      own.computed += tokens;
      if (left == 1 && own.computed > prompt_of(i)) {
        plan.decodes.push_back(SlotId(i));
        sampled.push_back(i);
        continue;
      }
      plan.chunks.push_back({SlotId(i), tokens, /*sample=*/tokens == left});
      if (tokens == left) chunked.push_back(i);
    }
    sampled.insert(sampled.end(), chunked.begin(), chunked.end());
    StepResult result;
    QUIRE_RETURN_IF_ERROR(executor->Step(plan, &result));
    if (result.tokens.size() != sampled.size()) {
      return absl::InternalError(absl::StrCat(
          result.tokens.size(), " tokens of ", sampled.size(), " samples"));
    }
    for (size_t i = 0; i < sampled.size(); ++i) {
      sequences[sampled[i]].tokens.push_back(result.tokens[i]);
    }
    if (plan.decodes.empty() && plan.chunks.empty() && victim < 0) break;
  }
  std::vector<std::vector<TokenId>> outputs;
  for (int32_t i = 0; i < n; ++i) {
    outputs.emplace_back(sequences[i].tokens.begin() + prompt_of(i),
                         sequences[i].tokens.end());
  }
  return outputs;
}

// Runs all samples at once, so that batches of all sizes come by as they end;
// each alone; and all again while they lose their seats. Whether every way
// gives the samples' tokens, whose best logits' leads were checked to survive
// rounding.
inline testing::AssertionResult NeitherBatchNorPreemptionShows(
    const DeviceOptions& device) {
  std::vector<Sample> samples = GoldenSamples();
  samples.resize(16);
  std::vector<std::vector<TokenId>> golden;
  for (const Sample& sample : samples) golden.push_back(sample.output);
  const RealClock clock;
  MemoryBoard board;
  const auto executor = Load(device, &clock, &board);
  if (executor == nullptr) return testing::AssertionFailure() << "no executor";
  const auto gives = [&executor](
                         const std::vector<Sample>& some,
                         const std::vector<std::vector<TokenId>>& tokens,
                         int32_t chunk_size, int32_t period) {
    const auto given = GenerateAgain(executor.get(), some, chunk_size, period);
    if (!given.ok()) return testing::AssertionFailure() << given.status();
    if (*given == tokens) return testing::AssertionSuccess();
    return testing::AssertionFailure()
           << "tokens are " << testing::PrintToString(*given) << ", not "
           << testing::PrintToString(tokens);
  };
  constexpr int32_t kNever = 1 << 30;
  auto shown = gives(samples, golden, 32, kNever);
  if (!shown) return shown << ", of all at once";
  for (size_t i = 0; i < samples.size(); ++i) {
    shown = gives({samples[i]}, {golden[i]}, 32, kNever);
    if (!shown) return shown << ", of sample " << i << " alone";
  }
  for (const int32_t period : {2, 5}) {
    shown = gives(samples, golden, 7, period);
    if (!shown) return shown << ", again every " << period << " steps";
  }
  return testing::AssertionSuccess();
}

}  // namespace quire

#endif  // TESTS_WORKER_EXECUTOR_DEVICE_EXACTNESS_H_
