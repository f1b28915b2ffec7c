// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/model/repeat_world.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "worker/model/registry.h"
#include "worker/weights/dummy_source.h"

namespace quire {
namespace {

std::vector<int32_t> Shuffled(int32_t count, uint32_t seed) {
  std::vector<int32_t> values(count);
  std::iota(values.begin(), values.end(), 0);
  std::shuffle(values.begin(), values.end(), std::mt19937(seed));
  return values;
}

}  // namespace

RepeatWorld::RepeatWorld(const ModelConfig& config,
                         std::unique_ptr<Backend> backend,
                         const RepeatSize& size)
    : size_(size),
      length_(size.num_blocks * kBlockSize),
      num_vocab_(config.vocab_size),
      backend_(std::move(backend)) {
  DummySource source(/*seed=*/1);
  auto model = CreateModel(
      config,
      {.max_num_batched_tokens = size.num_sequences * size.prompt_tokens,
       .max_num_seqs = size.num_sequences,
       .max_model_len = length_},
      source, *backend_, *group_.collective(0));
  CHECK(model.ok()) << model.status();
  model_ = *std::move(model);
  layout_ = model_->kv_layout(kBlockSize);
  tables_ = Shuffled(size.num_sequences * size.num_blocks, /*seed=*/1);
  tables_copy_ = Upload(tables_);
}

CacheBytes RepeatWorld::Compute(uint32_t seed) {
  const auto cache = Garbage(seed);
  const std::vector<int32_t> order = Shuffled(size_.num_sequences, seed);
  std::vector<int32_t> list = order;
  std::vector<Step> steps = {Describe(order, 0, size_.prompt_tokens, &list)};
  for (int32_t at = size_.prompt_tokens; at < length_; ++at) {
    steps.push_back(Describe(order, at, at + 1, &list));
  }
  const auto copy = Upload(list);
  for (const Step& step : steps) {
    RunStep(step, copy->as<const int32_t>(), cache->data());
  }
  CacheBytes bytes(cache->bytes());
  CHECK(backend_->CopyToHost(cache->data(), bytes.data(), cache->bytes()).ok());
  CHECK(backend_->Synchronize().ok());
  return bytes;
}

RepeatWorld::Step RepeatWorld::Describe(const std::vector<int32_t>& order,
                                        int32_t begin, int32_t end,
                                        std::vector<int32_t>* list) const {
  std::vector<int32_t> tokens, positions, places, starts = {0};
  for (const int32_t sequence : order) {
    for (int32_t at = begin; at < end; ++at) {
      tokens.push_back((sequence * 7919 + at * 1'237) % num_vocab_);
      positions.push_back(at);
      places.push_back(BlockOf(sequence, at) * kBlockSize + at % kBlockSize);
    }
    starts.push_back(static_cast<int32_t>(tokens.size()));
  }
  const auto append = [list](const std::vector<int32_t>& values) {
    list->insert(list->end(), values.begin(), values.end());
    return static_cast<int64_t>(list->size() - values.size());
  };
  Step step = {.begin = begin, .end = end};
  step.tokens = append(tokens);
  step.positions = append(positions);
  step.places = append(places);
  step.starts = append(starts);
  step.lengths = append(std::vector<int32_t>(order.size(), end));
  return step;
}

void RepeatWorld::RunStep(const Step& step, const int32_t* list, void* cache) {
  BatchInput batch;
  batch.num_tokens = size_.num_sequences * (step.end - step.begin);
  batch.num_seqs = size_.num_sequences;
  batch.num_samples = 1;
  batch.token_ids = list + step.tokens;
  batch.positions = list + step.positions;
  batch.slot_mapping = list + step.places;
  batch.query_start = list + step.starts;
  batch.context_lens = list + step.lengths;
  batch.seq_slots = list;
  batch.sample_rows = list + step.starts;  // the first token's
  batch.block_tables = tables_copy_->as<const int32_t>();
  batch.max_blocks_per_seq = size_.num_blocks;
  batch.are_contexts_apart = true;
  batch.min_new_tokens = step.end - step.begin;
  const auto logits = model_->Forward(
      batch, {cache, layout_, size_.num_sequences * size_.num_blocks});
  CHECK(logits.ok()) << logits.status();
}

std::unique_ptr<DeviceBuffer> RepeatWorld::Upload(
    const std::vector<int32_t>& list) {
  const auto bytes = static_cast<int64_t>(list.size() * sizeof(int32_t));
  auto copy = *backend_->Allocate(bytes);
  CHECK(backend_->CopyToDevice(list.data(), copy->data(), bytes).ok());
  CHECK(backend_->Synchronize().ok());
  return copy;
}

// Among it are values that are not numbers.
std::unique_ptr<DeviceBuffer> RepeatWorld::Garbage(uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint32_t> words(1 << 16);
  for (uint32_t& word : words) word = random();
  auto cache = *backend_->Allocate(size_.num_sequences * size_.num_blocks *
                                   layout_.BlockBytes());
  const auto most = static_cast<int64_t>(words.size() * sizeof(uint32_t));
  for (int64_t at = 0; at < cache->bytes(); at += most) {
    CHECK(backend_
              ->CopyToDevice(words.data(), cache->as<uint8_t>() + at,
                             std::min(most, cache->bytes() - at))
              .ok());
  }
  CHECK(backend_->Synchronize().ok());
  return cache;
}

std::string RepeatWorld::Differences(const CacheBytes& a,
                                     const CacheBytes& b) const {
  CHECK_EQ(a.size(), b.size());
  std::string text;
  if (a == b) return text;
  for (int32_t sequence = 0; sequence < size_.num_sequences; ++sequence) {
    bool is_told = false;
    for (int32_t at = 0; at < length_ && !is_told; ++at) {
      for (int32_t layer = 0; layer < layout_.num_layers && !is_told; ++layer) {
        const int32_t bytes = DifferentBytes(a, b, sequence, at, layer);
        if (bytes == 0) continue;
        absl::StrAppend(&text, "sequence ", sequence, ": token ", at,
                        ", layer ", layer, ", ", bytes, " bytes; ");
        is_told = true;
      }
    }
  }
  return text;
}

int32_t RepeatWorld::DifferentBytes(const CacheBytes& a, const CacheBytes& b,
                                    int32_t sequence, int32_t token,
                                    int32_t layer) const {
  const int64_t element_bytes = SizeOf(layout_.dtype);
  const int64_t first = BlockOf(sequence, token) * layout_.BlockStride() +
                        layer * layout_.LayerStride();
  int32_t count = 0;
  for (int32_t head = 0; head < 2 * layout_.num_kv_heads; ++head) {
    for (int32_t element = 0; element < layout_.head_dim; ++element) {
      const int64_t at = (first + head * layout_.HeadStride() +
                          layout_.ElementOffset(token % kBlockSize, element)) *
                         element_bytes;
      for (int64_t byte = at; byte < at + element_bytes; ++byte) {
        count += a[byte] != b[byte];
      }
    }
  }
  return count;
}

int64_t RepeatWorld::KeyOffset(int32_t sequence, int32_t token,
                               int32_t layer) const {
  return (BlockOf(sequence, token) * layout_.BlockStride() +
          layer * layout_.LayerStride() +
          layout_.ElementOffset(token % kBlockSize, 0)) *
         SizeOf(layout_.dtype);
}

int32_t RepeatWorld::BlockOf(int32_t sequence, int32_t token) const {
  return tables_[sequence * size_.num_blocks + token / kBlockSize];
}

}  // namespace quire
