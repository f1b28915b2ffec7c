// SPDX-License-Identifier: Apache-2.0
//
// A model whose logits are a hash of every token id that it can reach through
// the KV cache: a wrong slot mapping, table, position, copy or swap changes the
// tokens that come out.
#ifndef TESTS_WORKER_FAKES_FAKE_MODEL_H_
#define TESTS_WORKER_FAKES_FAKE_MODEL_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tests/worker/fakes/fake_backend.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"

namespace quire {

class FakeModel final : public Model {
 public:
  FakeModel(Collective* collective, int32_t vocab_size,
            const StepLimits& limits);

  // The logits after these tokens, of the whole vocabulary.
  static std::vector<float> LogitsAfter(absl::Span<const int32_t> tokens,
                                        int32_t vocab_size);

  absl::StatusOr<const float*> Forward(const BatchInput& batch,
                                       const KvCache& cache) override;
  absl::StatusOr<const float*> Logits(const int32_t* rows,
                                      int32_t num_rows) override;
  VocabShard vocab_shard() const override { return shard_; }
  KvLayout kv_layout(int32_t block_size) const override;
  int64_t weight_bytes() const override { return 1000; }
  int64_t activation_bytes() const override { return 2000; }

  // Runs in its turn on that device, which must live as long, and not at once;
  // a lost peer is fatal there.
  void set_device(FakeBackend* device) { device_ = device; }
  // From now on the logits of row 0 are NaN.
  void Spoil() { is_spoilt_ = true; }
  int32_t max_tokens_seen() const { return max_tokens_seen_; }
  int32_t max_seqs_seen() const { return max_seqs_seen_; }

 private:
  absl::Status Run(const BatchInput& batch, const KvCache& cache);
  void WriteKv(const BatchInput& batch, const KvCache& cache) const;
  void HashSamples(const BatchInput& batch, const KvCache& cache);
  void HashRows(const BatchInput& batch, const KvCache& cache,
                const int32_t* rows, int32_t num_rows);

  // The logits after the first `num_tokens` tokens of a sequence.
  void HashRow(const BatchInput& batch, const KvCache& cache, int32_t seq_idx,
               int32_t num_tokens, float* out) const;

  Collective* const collective_;
  FakeBackend* device_ = nullptr;
  const StepLimits limits_;
  VocabShard shard_;
  std::vector<float> logits_;
  BatchInput last_batch_;
  KvCache last_cache_;
  bool is_spoilt_ = false;
  int32_t max_tokens_seen_ = 0;
  int32_t max_seqs_seen_ = 0;
};

}  // namespace quire

#endif  // TESTS_WORKER_FAKES_FAKE_MODEL_H_
