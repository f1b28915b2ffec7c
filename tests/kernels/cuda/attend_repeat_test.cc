// SPDX-License-Identifier: Apache-2.0
//
// Layers of decodes as a model's step has them, kernel upon kernel: products of
// queries, keys and values of what the layer before attended to. Each layer's
// bits are the same whenever the step is run again, whatever its new tokens'
// places in the cache held.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cuda/count_different.h"

namespace quire {
namespace {

constexpr int32_t kSequences = 128;
constexpr int32_t kLayers = 16;
constexpr int32_t kHeads = 32;
constexpr int32_t kKvHeads = 8;
constexpr int32_t kDim = 128;
constexpr int32_t kBlockSize = 16;
constexpr int32_t kMaxBlocks = 32;  // of a sequence
constexpr int32_t kMaxContext = kMaxBlocks * kBlockSize;
constexpr int64_t kHidden = kHeads * kDim;
constexpr int64_t kColumns = (kHeads + 2 * kKvHeads) * kDim;

class AttendRepeatTest : public testing::TestWithParam<KvOrder> {
 protected:
  void SetUp() override {
    layout_ = {kLayers, kKvHeads, kDim, kBlockSize, DType::kBf16, GetParam()};
    if (GetParam() == KvOrder::kTiles &&
        AttentionCudaOrder(layout_) != KvOrder::kTiles) {
      GTEST_SKIP() << "no tiles on this device";
    }
    auto backend =
        CreateCudaBackend({.dtype = DType::kBf16, .is_deterministic = true});
    CHECK(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    cache_ = Random(kSequences * kMaxBlocks * layout_.BlockStride(), 1);
    hidden_ = Upload(RandomBelow(/*shift=*/4, kSequences * kHidden, 2));
    garbage_ = Random(kSequences * kColumns, 3);
    qkv_ = Random(kSequences * kColumns, 4);
    PackWeight();
    Rotations();
    Describe();
  }

  std::unique_ptr<DeviceBuffer> Room(int64_t bytes) {
    return *backend_->Allocate(bytes);
  }
  std::unique_ptr<DeviceBuffer> Random(int64_t count, uint32_t seed) {
    auto room = Room(count * 2);
    FillWithRandomBf16(room->data(), count, seed);
    return room;
  }
  template <typename T>
  std::unique_ptr<DeviceBuffer> Upload(const std::vector<T>& values) {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    auto room = Room(bytes);
    CHECK(backend_->CopyToDevice(values.data(), room->data(), bytes).ok());
    CHECK(backend_->Synchronize().ok());
    return room;
  }

  // Numbers in (-2^-shift, 2^-shift). With these, scores neither vanish nor let
  // one key take all, from layer to layer.
  std::vector<uint16_t> RandomBelow(int32_t shift, int64_t count,
                                    uint32_t seed) {
    const auto random = Random(count, seed);
    std::vector<uint16_t> numbers(count);
    CHECK(backend_->CopyToHost(random->data(), numbers.data(), count * 2).ok());
    CHECK(backend_->Synchronize().ok());
    for (uint16_t& number : numbers) {
      constexpr uint16_t kExponent = 0x7f80;
      if ((number & kExponent) != 0) number -= shift << 7;
    }
    return numbers;
  }

  void PackWeight() {
    const std::vector<uint16_t> weight =
        RandomBelow(/*shift=*/2, kColumns * kHidden, 5);
    auto packed = backend_->PackWeight(
        {{weight.data(), DType::kBf16, kColumns, kHidden, kHidden}});
    CHECK(packed.ok()) << packed.status();
    weight_ = *std::move(packed);
  }

  void Rotations() {
    std::vector<float> table(kMaxContext * kDim);
    for (int32_t at = 0; at < kMaxContext * kDim; ++at) {
      const int32_t pair = at % (kDim / 2);
      const double angle = at / kDim * std::pow(10'000.0, -2.0 * pair / kDim);
      const bool is_cosine = at % kDim < kDim / 2;
      table[at] =
          static_cast<float>(is_cosine ? std::cos(angle) : std::sin(angle));
    }
    rotations_ = Upload(table);
  }

  // A decode of each sequence, of 65 tokens to kMaxContext.
  void Describe() {
    std::mt19937 random(6);
    std::vector<int32_t> tables(kSequences * kMaxBlocks);
    std::iota(tables.begin(), tables.end(), 0);
    std::shuffle(tables.begin(), tables.end(), random);
    std::vector<int32_t> slots, places, starts(kSequences + 1);
    std::iota(starts.begin(), starts.end(), 0);
    for (int32_t seq = 0; seq < kSequences; ++seq) {
      slots.push_back(seq);
      contexts_.push_back(kMaxContext - static_cast<int32_t>(random() % 448));
      const int32_t position = contexts_.back() - 1;
      positions_.push_back(position);
      const int32_t block = tables[seq * kMaxBlocks + position / kBlockSize];
      places.push_back(block * kBlockSize + position % kBlockSize);
    }
    tables_ = Upload(tables);
    slots_ = Upload(slots);
    starts_ = Upload(starts);
    lengths_ = Upload(contexts_);
    at_ = Upload(positions_);
    places_ = Upload(places);
  }

  RopeWriteKvParams Writing(int32_t layer, const DeviceBuffer& qkv) const {
    return {.qkv = qkv.data(),
            .qkv_stride = kColumns,
            .cos_sin = rotations_->as<const float>(),
            .positions = at_->as<const int32_t>(),
            .slot_mapping = places_->as<const int32_t>(),
            .cache = {cache_->data(), layout_, layer, kSequences * kMaxBlocks},
            .rotary_dim = kDim,
            .num_q_heads = kHeads,
            .num_tokens = kSequences};
  }

  AttendNewTokensParams Attending(int32_t layer, void* out) const {
    const RopeWriteKvParams write = Writing(layer, *qkv_);
    const AttentionParams attention = {
        .q = qkv_->data(),
        .q_stride = kColumns,
        .out = out,
        .cache = write.cache,
        .block_tables = tables_->as<const int32_t>(),
        .seq_slots = slots_->as<const int32_t>(),
        .query_start = starts_->as<const int32_t>(),
        .context_lens = lengths_->as<const int32_t>(),
        .max_blocks_per_seq = kMaxBlocks,
        .num_seqs = kSequences,
        .num_tokens = kSequences,
        .num_q_heads = kHeads,
        .sliding_window = 0,
        .scale = 1.0f / std::sqrt(static_cast<float>(kDim)),
        .are_contexts_apart = true,
        .min_new_tokens = 1};
    return {write, attention};
  }

  void Multiply(const void* x) {
    const GemmParams params = {.x = x,
                               .x_stride = kHidden,
                               .weight = weight_.get(),
                               .bias = nullptr,
                               .y = qkv_->data(),
                               .y_stride = kColumns,
                               .y_dtype = DType::kBf16,
                               .m = kSequences};
    CHECK(backend_->Gemm(params).ok());
  }

  // Every layer's [kSequences, kHidden] to `out`.
  void RunStep(uint16_t* out) {
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      CHECK(backend_->RopeWriteKv(Writing(layer, *garbage_)).ok());
    }
    // A step begins with what describes it.
    CHECK(backend_
              ->CopyToDevice(contexts_.data(), lengths_->data(),
                             lengths_->bytes())
              .ok());
    const void* x = hidden_->data();
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      void* const y = out + layer * kSequences * kHidden;
      Multiply(x);
      CHECK(backend_->AttendNewTokens(Attending(layer, y)).ok());
      x = y;
    }
    CHECK(backend_->Synchronize().ok());
  }

  // The first layer that is not the same, and its sequences that are not.
  std::string Differences(const DeviceBuffer& want, const DeviceBuffer& got) {
    std::vector<uint64_t> a(want.bytes() / 8), b(want.bytes() / 8);
    CHECK(backend_->CopyToHost(want.data(), a.data(), want.bytes()).ok());
    CHECK(backend_->CopyToHost(got.data(), b.data(), got.bytes()).ok());
    CHECK(backend_->Synchronize().ok());
    constexpr int64_t kWords = kHidden / 4, kHeadWords = kDim / 4;
    std::ostringstream text;
    for (int64_t row = 0; row < kLayers * kSequences; ++row) {
      int32_t words = 0;
      uint32_t heads = 0;
      for (int64_t at = 0; at < kWords; ++at) {
        if (a[row * kWords + at] == b[row * kWords + at]) continue;
        ++words;
        heads |= 1u << at / kHeadWords;
      }
      if (words > 0) {
        text << " sequence " << row % kSequences << " of "
             << contexts_[row % kSequences] << " tokens: " << words
             << " words of heads " << std::hex << heads << std::dec << ";";
      }
      const bool ends_layer = row % kSequences == kSequences - 1;
      if (ends_layer && text.tellp() > 0) {
        return "layer " + std::to_string(row / kSequences) + ":" + text.str();
      }
    }
    return "none";
  }

  KvLayout layout_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PackedWeight> weight_;
  std::unique_ptr<DeviceBuffer> cache_, hidden_, garbage_, qkv_, rotations_;
  std::unique_ptr<DeviceBuffer> tables_, slots_, starts_, lengths_, at_,
      places_;
  std::vector<int32_t> contexts_, positions_;
};

TEST_P(AttendRepeatTest, AStepRepeatsToTheBit) {
  constexpr int64_t kBytes = int64_t{kLayers} * kSequences * kHidden * 2;
  const auto want = Room(kBytes), got = Room(kBytes);
  RunStep(want->as<uint16_t>());
  for (int i = 0; i < 1000; ++i) {
    RunStep(got->as<uint16_t>());
    if (CountDifferentWords(want->data(), got->data(), kBytes / 4) == 0) {
      continue;
    }
    ADD_FAILURE() << "run " << i << ", " << Differences(*want, *got);
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, AttendRepeatTest,
                         testing::Values(KvOrder::kHeads, KvOrder::kTiles),
                         [](const auto& info) {
                           return info.param == KvOrder::kTiles ? "Tiles"
                                                                : "Heads";
                         });

}  // namespace
}  // namespace quire
