// SPDX-License-Identifier: Apache-2.0
//
// Attention's plan, which the layers of a step share: it is the step's own
// however the arrays that describe the step came to change.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/tensor.h"

namespace quire {
namespace {

constexpr int32_t kLayers = 2;
constexpr int32_t kQHeads = 4;
constexpr int32_t kKvHeads = 2;
constexpr int32_t kHeadDim = 128;
constexpr int32_t kBlockSize = 16;
constexpr int32_t kBlocksPerSeq = 64;
constexpr int32_t kSeqs = 3;
constexpr int64_t kRow = (kQHeads + 2 * kKvHeads) * kHeadDim;
constexpr int64_t kOutRow = kQHeads * kHeadDim;

// A step of one new token a sequence, as the device sees it.
struct Arrays {
  int32_t query_start[kSeqs + 1];
  int32_t context_lens[kSeqs];
  int32_t seq_slots[kSeqs];
  int32_t slot_mapping[kSeqs];
  int32_t positions[kSeqs];
};
constexpr int32_t kArrayWords = sizeof(Arrays) / sizeof(int32_t);

Arrays ArraysOf(const std::vector<int32_t>& contexts) {
  Arrays arrays = {};
  for (int32_t seq = 0; seq < kSeqs; ++seq) {
    arrays.query_start[seq + 1] = seq + 1;
    arrays.context_lens[seq] = contexts[seq];
    arrays.seq_slots[seq] = seq;
    arrays.positions[seq] = contexts[seq] - 1;
    arrays.slot_mapping[seq] =
        seq * kBlocksPerSeq * kBlockSize + contexts[seq] - 1;
  }
  return arrays;
}

class AttendStepsTest : public testing::Test {
 protected:
  AttendStepsTest() {
    auto backend = CreateCudaBackend(
        {.dtype = DType::kBf16, .is_deterministic = true});
    CHECK(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    layout_ = {kLayers, kKvHeads, kHeadDim, kBlockSize, DType::kBf16};
    layout_.order = backend_->kv_order(layout_);
    const int64_t blocks = kSeqs * kBlocksPerSeq;
    cache_ = Upload(
        Tensor::Random(DType::kBf16, blocks * layout_.BlockStride(), 1));
    qkv_ = Upload(Tensor::Random(DType::kBf16, kSeqs * kRow, 2));
    out_ = Upload(Tensor(DType::kBf16, kLayers * kSeqs * kOutRow));
    arrays_ = *backend_->Allocate(sizeof(Arrays));
    host_arrays_ = *backend_->AllocateHost(sizeof(Arrays) + sizeof(WordRun));
    tables_ = *backend_->Allocate(blocks * sizeof(int32_t));
    std::vector<int32_t> tables;
    for (int32_t block = 0; block < blocks; ++block) tables.push_back(block);
    CHECK(backend_
              ->CopyToDevice(tables.data(), tables_->data(), tables_->bytes())
              .ok());
    CHECK(backend_->Synchronize().ok());
  }

  std::unique_ptr<DeviceBuffer> Upload(const Tensor& tensor) {
    const int64_t bytes = tensor.size() * SizeOf(tensor.dtype());
    auto buffer = *backend_->Allocate(bytes);
    CHECK(backend_->CopyToDevice(tensor.data(), buffer->data(), bytes).ok());
    CHECK(backend_->Synchronize().ok());
    return buffer;
  }

  void CopyArrays(const std::vector<int32_t>& contexts) {
    *host_arrays_->as<Arrays>() = ArraysOf(contexts);
    ASSERT_TRUE(backend_
                    ->CopyToDevice(host_arrays_->data(), arrays_->data(),
                                   sizeof(Arrays))
                    .ok());
  }

  // The same by a kernel that reads the host's memory.
  void FetchArrays(const std::vector<int32_t>& contexts) {
    *host_arrays_->as<Arrays>() = ArraysOf(contexts);
    auto* run = reinterpret_cast<WordRun*>(host_arrays_->as<Arrays>() + 1);
    *run = {0, 0, kArrayWords};
    ASSERT_TRUE(backend_
                    ->CopyRuns({.runs = run,
                                .values = host_arrays_->as<int32_t>(),
                                .out = arrays_->as<int32_t>(),
                                .num_runs = 1})
                    .ok());
  }

  absl::Status AttendLayer(int32_t layer, int32_t num_seqs) {
    const Arrays* arrays = arrays_->as<Arrays>();
    AttendNewTokensParams params = {};
    params.write.qkv = qkv_->data();
    params.write.qkv_stride = kRow;
    params.write.positions = arrays->positions;
    params.write.slot_mapping = arrays->slot_mapping;
    params.write.cache = {cache_->data(), layout_, layer,
                          kSeqs * kBlocksPerSeq};
    params.write.num_q_heads = kQHeads;
    params.write.num_tokens = num_seqs;
    AttentionParams& attention = params.attention;
    attention.q = qkv_->data();
    attention.q_stride = kRow;
    attention.out = out_->as<char>() + layer * kSeqs * kOutRow * 2;
    attention.cache = params.write.cache;
    attention.block_tables = tables_->as<int32_t>();
    attention.seq_slots = arrays->seq_slots;
    attention.query_start = arrays->query_start;
    attention.context_lens = arrays->context_lens;
    attention.max_blocks_per_seq = kBlocksPerSeq;
    attention.num_seqs = num_seqs;
    attention.num_tokens = num_seqs;
    attention.num_q_heads = kQHeads;
    attention.scale = 1 / std::sqrt(static_cast<float>(kHeadDim));
    attention.are_contexts_apart = true;
    attention.min_new_tokens = 1;
    return backend_->AttendNewTokens(params);
  }

  absl::Status Attend(int32_t num_seqs = kSeqs) {
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      const absl::Status status = AttendLayer(layer, num_seqs);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  Tensor Outputs() {
    Tensor out(DType::kBf16, kLayers * kSeqs * kOutRow);
    EXPECT_TRUE(
        backend_->CopyToHost(out_->data(), out.data(), out_->bytes()).ok());
    EXPECT_TRUE(backend_->Synchronize().ok());
    return out;
  }

  // With a plan made for every layer.
  Tensor Expected(const std::vector<int32_t>& contexts) {
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      CopyArrays(contexts);
      EXPECT_TRUE(AttendLayer(layer, kSeqs).ok());
    }
    return Outputs();
  }

  std::unique_ptr<Backend> backend_;
  KvLayout layout_;
  std::unique_ptr<DeviceBuffer> cache_, qkv_, out_, arrays_, host_arrays_,
      tables_;
};

const std::vector<int32_t> kShort = {7, 40, 300};
const std::vector<int32_t> kLong = {900, 1000, 420};

TEST_F(AttendStepsTest, CopiedArraysAreAnotherStep) {
  const Tensor of_short = Expected(kShort), of_long = Expected(kLong);
  EXPECT_FALSE(of_short.SameBits(of_long));
  CopyArrays(kShort);
  ASSERT_TRUE(Attend().ok());
  EXPECT_TRUE(Outputs().SameBits(of_short));
  CopyArrays(kLong);
  ASSERT_TRUE(Attend().ok());
  EXPECT_TRUE(Outputs().SameBits(of_long));
}

TEST_F(AttendStepsTest, FetchedArraysAreAnotherStep) {
  const Tensor of_short = Expected(kShort), of_long = Expected(kLong);
  FetchArrays(kShort);
  ASSERT_TRUE(Attend().ok());
  EXPECT_TRUE(Outputs().SameBits(of_short));
  FetchArrays(kLong);
  ASSERT_TRUE(Attend().ok());
  EXPECT_TRUE(Outputs().SameBits(of_long));
}

TEST_F(AttendStepsTest, ReplayedStepsLeaveNoPlanBehind) {
  const Tensor of_short = Expected(kShort), of_long = Expected(kLong);
  const auto fewer =
      backend_->Record([this] { return Attend(/*num_seqs=*/kSeqs - 1); });
  ASSERT_TRUE(fewer.ok()) << fewer.status();
  const auto whole = backend_->Record([this] { return Attend(); });
  ASSERT_TRUE(whole.ok()) << whole.status();
  FetchArrays(kShort);
  ASSERT_TRUE(Attend().ok());
  // Where the plan of those lies, this one's is then.
  ASSERT_TRUE(backend_->Replay(fewer->get()).ok());
  ASSERT_TRUE(Attend().ok());
  EXPECT_TRUE(Outputs().SameBits(of_short));
  // A recording makes its plan of what the arrays hold.
  FetchArrays(kLong);
  ASSERT_TRUE(backend_->Replay(whole->get()).ok());
  EXPECT_TRUE(Outputs().SameBits(of_long));
}

}  // namespace
}  // namespace quire
