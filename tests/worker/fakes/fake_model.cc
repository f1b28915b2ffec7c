// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/fakes/fake_model.h"

#include <algorithm>
#include <cmath>

#include "common/digest.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

uint64_t Extend(uint64_t hash, float token, float position) {
  return MixBits(
      hash ^ MixBits(static_cast<uint64_t>(static_cast<int64_t>(token)) << 20 ^
                     static_cast<int64_t>(position)));
}

// In [-4, 4).
float LogitOf(uint64_t hash, int32_t token_id) {
  return static_cast<int32_t>(MixBits(hash ^ token_id) % 8000) / 1000.f - 4;
}

}  // namespace

FakeModel::FakeModel(Collective* collective, int32_t vocab_size,
                     const StepLimits& limits)
    : collective_(collective), limits_(limits) {
  const int32_t per_rank =
      (vocab_size + collective->world_size() - 1) / collective->world_size();
  shard_.first_id = std::min(vocab_size, collective->rank() * per_rank);
  shard_.num_ids = std::min(vocab_size - shard_.first_id, per_rank);
  logits_.resize(int64_t{limits.max_num_seqs} * shard_.num_ids);
}

std::vector<float> FakeModel::LogitsAfter(absl::Span<const int32_t> tokens,
                                          int32_t vocab_size) {
  uint64_t hash = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    hash = Extend(hash, tokens[i], i);
  }
  std::vector<float> logits(vocab_size);
  for (int32_t id = 0; id < vocab_size; ++id) logits[id] = LogitOf(hash, id);
  return logits;
}

KvLayout FakeModel::kv_layout(int32_t block_size) const {
  return {/*num_layers=*/1, /*num_kv_heads=*/1, /*head_dim=*/1, block_size,
          DType::kF32};
}

void FakeModel::HashRow(const BatchInput& batch, const KvCache& cache,
                        int32_t seq_idx, int32_t num_tokens, float* out) const {
  const int32_t block_size = cache.layout.block_size;
  const int32_t* table =
      batch.block_tables + batch.seq_slots[seq_idx] * batch.max_blocks_per_seq;
  uint64_t hash = 0;
  for (int32_t i = 0; i < num_tokens; ++i) {
    const float* block = static_cast<const float*>(cache.base) +
                         table[i / block_size] * cache.layout.BlockStride();
    hash =
        Extend(hash, block[i % block_size], block[block_size + i % block_size]);
  }
  for (int32_t i = 0; i < shard_.num_ids; ++i) {
    out[i] = LogitOf(hash, shard_.first_id + i);
  }
}

void FakeModel::WriteKv(const BatchInput& batch, const KvCache& cache) const {
  const int32_t block_size = cache.layout.block_size;
  for (int32_t i = 0; i < batch.num_tokens; ++i) {
    const int32_t slot = batch.slot_mapping[i];
    if (slot == -1) continue;  // padding
    CHECK(slot >= 0 && slot < cache.num_blocks * block_size) << slot;
    float* block = static_cast<float*>(cache.base) +
                   slot / block_size * cache.layout.BlockStride();
    const int32_t token = batch.token_ids[i];
    block[slot % block_size] = token < 0 ? batch.sampled[~token] : token;
    block[block_size + slot % block_size] = batch.positions[i];
  }
}

void FakeModel::HashSamples(const BatchInput& batch, const KvCache& cache) {
  int32_t sample_idx = 0;
  for (int32_t seq = 0; seq < batch.num_seqs; ++seq) {
    if (batch.query_start[seq + 1] == batch.query_start[seq]) {
      ++sample_idx;  // padding, whose logits nobody reads
      continue;
    }
    if (sample_idx == batch.num_samples ||
        batch.sample_rows[sample_idx] != batch.query_start[seq + 1] - 1) {
      continue;
    }
    HashRow(batch, cache, seq, batch.context_lens[seq],
            &logits_[int64_t{sample_idx} * shard_.num_ids]);
    ++sample_idx;
  }
  CHECK_EQ(sample_idx, batch.num_samples);
}

absl::Status FakeModel::Run(const BatchInput& batch, const KvCache& cache) {
  WriteKv(batch, cache);
  float one = 1;  // as real layers do, so that a lost peer shows
  QUIRE_RETURN_IF_ERROR(collective_->AllReduceSum(&one, 1, DType::kF32));
  CHECK_EQ(one, collective_->world_size());
  HashSamples(batch, cache);
  if (is_spoilt_ && !logits_.empty()) logits_[0] = std::nanf("");
  return absl::OkStatus();
}

absl::StatusOr<const float*> FakeModel::Forward(const BatchInput& batch,
                                                const KvCache& cache) {
  CHECK_LE(batch.num_tokens, limits_.max_num_batched_tokens);
  CHECK_LE(batch.num_seqs, limits_.max_num_seqs);
  max_tokens_seen_ = std::max(max_tokens_seen_, batch.num_tokens);
  max_seqs_seen_ = std::max(max_seqs_seen_, batch.num_seqs);
  last_batch_ = batch;
  last_cache_ = cache;
  if (device_ == nullptr) {
    QUIRE_RETURN_IF_ERROR(Run(batch, cache));
  } else {
    device_->Enqueue([this, batch, cache] {
      const absl::Status status = Run(batch, cache);
      CHECK(status.ok()) << status;
    });
  }
  return logits_.data();
}

void FakeModel::HashRows(const BatchInput& batch, const KvCache& cache,
                         const int32_t* rows, int32_t num_rows) {
  for (int32_t i = 0; i < num_rows; ++i) {
    CHECK(rows[i] >= 0 && rows[i] < batch.num_tokens) << rows[i];
    int32_t seq = 0;
    while (batch.query_start[seq + 1] <= rows[i]) ++seq;
    const int32_t num_after = batch.query_start[seq + 1] - 1 - rows[i];
    HashRow(batch, cache, seq, batch.context_lens[seq] - num_after,
            &logits_[int64_t{i} * shard_.num_ids]);
  }
}

absl::StatusOr<const float*> FakeModel::Logits(const int32_t* rows,
                                               int32_t num_rows) {
  CHECK_LE(num_rows, limits_.max_num_seqs);
  const auto run = [this, batch = last_batch_, cache = last_cache_, rows,
                    num_rows] { HashRows(batch, cache, rows, num_rows); };
  if (device_ == nullptr) {
    run();
  } else {
    device_->Enqueue(run);
  }
  return logits_.data();
}

}  // namespace quire
