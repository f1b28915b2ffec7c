// SPDX-License-Identifier: Apache-2.0
//
// Executors of a small model, and a run of plans for them.
#ifndef TESTS_WORKER_EXECUTOR_EXECUTOR_WORLD_H_
#define TESTS_WORKER_EXECUTOR_EXECUTOR_WORLD_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/fakes/fake_model.h"
#include "worker/executor/executor.h"

namespace quire {

inline constexpr int32_t kVocab = 97;
inline constexpr int32_t kBlockSize = 4;

inline StepLimits Limits() {
  StepLimits limits;
  limits.max_num_batched_tokens = 32;
  limits.max_num_seqs = 4;
  limits.max_model_len = 40;
  return limits;
}

// A collective that lives in a LocalGroup. What its devices gather is told to
// `most_gathered`, if given: the most bytes of a rank's in a call.
class Borrowed final : public Collective {
 public:
  explicit Borrowed(Collective* real, int64_t* most_gathered = nullptr)
      : real_(real), most_gathered_(most_gathered) {}
  int32_t rank() const override { return real_->rank(); }
  int32_t world_size() const override { return real_->world_size(); }
  absl::Status AllReduceSum(void* data, int64_t n, DType dtype) override {
    return real_->AllReduceSum(data, n, dtype);
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes) override {
    return real_->AllGather(in, out, bytes);
  }
  absl::Status EnqueueAllGather(const void* in, void* out,
                                int64_t bytes) override {
    if (most_gathered_ != nullptr) {
      *most_gathered_ = std::max(*most_gathered_, bytes);
    }
    return real_->EnqueueAllGather(in, out, bytes);
  }
  absl::Status Barrier() override { return real_->Barrier(); }

 private:
  Collective* const real_;
  int64_t* const most_gathered_;
};

// All but the model.
inline ExecutorParts SmallParts(std::unique_ptr<FakeBackend> backend,
                                std::unique_ptr<Collective> collective) {
  ExecutorParts parts;
  parts.backend = std::move(backend);
  parts.collective = std::move(collective);
  parts.limits = Limits();
  parts.block_size = kBlockSize;
  parts.vocab_size = kVocab;
  return parts;
}

inline std::unique_ptr<Executor> MakeExecutor(
    std::unique_ptr<Collective> collective, const Clock* clock,
    bool spoil = false, bool records_decodes = false,
    bool chooses_shaped = false) {
  auto backend = std::make_unique<FakeBackend>();
  backend->set_asynchronous();
  if (chooses_shaped) backend->set_chooses_shaped();
  ExecutorParts parts = SmallParts(std::move(backend), std::move(collective));
  parts.device_sampling = chooses_shaped;
  parts.records_decodes = records_decodes;
  auto model =
      std::make_unique<FakeModel>(parts.collective.get(), kVocab, Limits());
  if (spoil) model->Spoil();
  parts.model = std::move(model);
  auto executor = Executor::Create(std::move(parts), clock);
  EXPECT_TRUE(executor.ok()) << executor.status();
  return *std::move(executor);
}

// Greedy tokens straight from the model's definition.
inline std::vector<TokenId> Continue(std::vector<TokenId> tokens, int32_t n) {
  std::vector<TokenId> out;
  for (int32_t i = 0; i < n; ++i) {
    const auto logits = FakeModel::LogitsAfter(tokens, kVocab);
    const auto best = std::max_element(logits.begin(), logits.end());
    out.push_back(static_cast<TokenId>(best - logits.begin()));
    tokens.push_back(out.back());
  }
  return out;
}

inline AdmittedSlot Admit(int32_t slot, std::vector<TokenId> tokens,
                          std::vector<int32_t> blocks,
                          int32_t num_computed = 0) {
  AdmittedSlot admitted;
  admitted.slot = SlotId(slot);
  admitted.num_prompt_tokens = static_cast<int32_t>(tokens.size());
  admitted.tokens = std::move(tokens);
  admitted.num_computed_tokens = num_computed;
  admitted.sampling.temperature = 0;
  std::vector<BlockId> ids;
  for (int32_t block : blocks) ids.push_back(BlockId(block));
  admitted.cache = ids;
  return admitted;
}

// A run of plans: two prompts, one in chunks, decodes across block borders, a
// swap out and in to other blocks, a fork with copy-on-write, a resync.
inline std::vector<StepPlan> Script() {
  std::vector<StepPlan> plans(9);
  plans[0].admitted = {Admit(0, {1, 2, 3, 4, 5, 6, 7}, {9, 4}),
                       Admit(2, {50, 51}, {7})};
  plans[0].chunks = {{SlotId(0), 3, false}, {SlotId(2), 2, true}};
  plans[1].decodes = {SlotId(2)};
  plans[1].chunks = {{SlotId(0), 4, true}};
  plans[2].decodes = {SlotId(0), SlotId(2)};
  plans[3].appended = {{SlotId(0), BlockId(11)}, {SlotId(2), BlockId(1)}};
  plans[3].decodes = {SlotId(2), SlotId(0)};
  // Blocks 9 and 4 of slot 0 go out and come back as 2 and 3.
  plans[4].swap_outs = {{BlockId(9), HostBlockId(1)},
                        {BlockId(4), HostBlockId(0)}};
  plans[4].swap_ins = {{BlockId(2), HostBlockId(1)},
                       {BlockId(3), HostBlockId(0)}};
  plans[4].replaced = {{SlotId(0), 0, BlockId(2)}, {SlotId(0), 1, BlockId(3)}};
  plans[4].decodes = {SlotId(0)};
  // Slot 1 forks from slot 0 after its prompt and first output: 8 tokens, 7
  // computed, so its last block is shared until it is copied.
  plans[5].forks = {{SlotId(0), SlotId(1), SequenceId(9), 0, 8}};
  plans[5].replaced = {{SlotId(1), 1, BlockId(12)}};
  plans[5].copies = {{BlockId(3), BlockId(12)}};
  plans[5].decodes = {SlotId(0), SlotId(1)};
  plans[6].released = {SlotId(2)};
  plans[6].appended = {{SlotId(1), BlockId(13)}};
  plans[6].decodes = {SlotId(1), SlotId(0)};
  // A fresh start for slot 3, with the tokens that slot 0 has so far.
  std::vector<TokenId> so_far = {1, 2, 3, 4, 5, 6, 7};
  for (TokenId token : Continue(so_far, 6)) so_far.push_back(token);
  plans[7].resync = true;
  plans[7].admitted = {Admit(3, so_far, {5, 6, 8, 10})};
  plans[7].chunks = {{SlotId(3), 13, true}};
  plans[8].decodes = {SlotId(3)};
  for (size_t i = 0; i < plans.size(); ++i) {
    plans[i].identity = {Epoch(1), Epoch(2), StepId(i + 1)};
  }
  return plans;
}

inline std::vector<std::vector<TokenId>> ExpectedTokens() {
  const auto a = Continue({1, 2, 3, 4, 5, 6, 7}, 8);
  const auto b = Continue({50, 51}, 4);
  return {{b[0]},       {b[1], a[0]}, {a[1], b[2]}, {b[3], a[2]}, {a[3]},
          {a[4], a[1]}, {a[2], a[5]}, {a[6]},       {a[7]}};
}

}  // namespace quire

#endif  // TESTS_WORKER_EXECUTOR_EXECUTOR_WORLD_H_
