// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_backend.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/kernels/tensor.h"

namespace quire {
namespace {

std::unique_ptr<Backend> Make(DType dtype) {
  auto backend = CreateCudaBackend({.dtype = dtype});
  CHECK(backend.ok()) << backend.status();
  return *std::move(backend);
}

TEST(CudaBackendTest, SaysWhatItIs) {
  const auto backend = Make(DType::kBf16);
  EXPECT_EQ(backend->name(), "cuda");
  EXPECT_EQ(backend->dtype(), DType::kBf16);
  EXPECT_EQ(backend->partial_dtype(), DType::kF32);
  EXPECT_TRUE(backend->Synchronize().ok());
}

TEST(CudaBackendTest, CachesLieByHeadsWhereOutputMustRepeat) {
  const auto backend =
      CreateCudaBackend({.dtype = DType::kBf16, .is_deterministic = true});
  ASSERT_TRUE(backend.ok()) << backend.status();
  KvLayout layout = {};
  layout.num_layers = 2;
  layout.num_kv_heads = 8;
  layout.head_dim = 128;
  layout.block_size = 16;
  layout.dtype = DType::kBf16;
  EXPECT_EQ((*backend)->kv_order(layout), KvOrder::kHeads);
}

TEST(CudaBackendTest, ADeviceThatIsNotThereIsUnavailable) {
  EXPECT_EQ(CreateCudaBackend({.device = 4096}).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(CudaBackendTest, CopiesThereAndBack) {
  const auto backend = Make(DType::kF32);
  for (int64_t bytes : {0, 1, 63, 4096, 10 << 20}) {
    auto buffer = backend->Allocate(bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ((*buffer)->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*buffer)->data()) % 64, 0);
    auto host = backend->AllocateHost(bytes);
    ASSERT_TRUE(host.ok()) << host.status();
    for (int64_t i = 0; i < bytes; ++i) (*host)->as<uint8_t>()[i] = i * 7;
    ASSERT_TRUE(
        backend->CopyToDevice((*host)->data(), (*buffer)->data(), bytes).ok());
    std::vector<uint8_t> back(bytes + 1, 0xaa);
    ASSERT_TRUE(
        backend->CopyToHost((*buffer)->data(), back.data(), bytes).ok());
    ASSERT_TRUE(backend->Synchronize().ok());
    EXPECT_EQ(std::memcmp(back.data(), (*host)->data(), bytes), 0);
    EXPECT_EQ(back[bytes], 0xaa);
  }
}

TEST(CudaBackendTest, TooMuchMemoryIsResourceExhaustedAndNotSticky) {
  const auto backend = Make(DType::kF32);
  EXPECT_EQ(backend->Allocate(int64_t{1} << 50).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(backend->Synchronize().ok());
  EXPECT_TRUE(backend->Allocate(1 << 20).ok());
}

TEST(CudaBackendTest, ReportsMemory) {
  const auto backend = Make(DType::kF32);
  const auto before = backend->GetMemoryInfo();
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_GT(before->free_bytes, 0);
  const auto buffer = backend->Allocate(int64_t{256} << 20);
  ASSERT_TRUE(buffer.ok());
  const auto after = backend->GetMemoryInfo();
  ASSERT_TRUE(after.ok());
  EXPECT_EQ(before->total_bytes, after->total_bytes);
  EXPECT_LE(after->free_bytes, before->free_bytes - (int64_t{255} << 20));
}

TEST(CudaBackendTest, UploadStacksAndConvertsRows) {
  for (DType dtype : {DType::kF32, DType::kBf16}) {
    const auto backend = Make(dtype);
    const Tensor a = Tensor::Random(DType::kF32, 100 * 9, 1);
    const Tensor b = Tensor::Random(DType::kBf16, 2 * 9, 2);
    // Columns 1 to 7 of 9.
    const HostMatrix stack[] = {{a.At(1), DType::kF32, 100, 7, 9},
                                {b.At(1), DType::kBf16, 2, 7, 9}};
    auto buffer = backend->Upload(stack);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    Tensor got(dtype, 102 * 7), want(dtype, 102 * 7);
    ASSERT_EQ((*buffer)->bytes(), got.size() * SizeOf(dtype));
    ASSERT_TRUE(
        backend->CopyToHost((*buffer)->data(), got.data(), (*buffer)->bytes())
            .ok());
    ASSERT_TRUE(backend->Synchronize().ok());
    for (int64_t i = 0; i < want.size(); ++i) {
      const int64_t row = i / 7, column = 1 + i % 7;
      want.Set(i,
               row < 100 ? a[row * 9 + column] : b[(row - 100) * 9 + column]);
    }
    EXPECT_TRUE(got.SameBits(want));
  }
}

TEST(CudaBackendTest, UploadsMoreThanItsPinnedPiecesHold) {
  const auto backend = Make(DType::kBf16);
  const int64_t rows = 50'000, cols = 1024;  // 200 MB, 7 pieces
  std::vector<float> matrix(rows * cols);
  for (size_t i = 0; i < matrix.size(); ++i) {
    matrix[i] = static_cast<float>(i % 251);
  }
  const HostMatrix stack[] = {{matrix.data(), DType::kF32, rows, cols, cols}};
  auto buffer = backend->Upload(stack);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  std::vector<Bf16> got(rows * cols);
  ASSERT_TRUE(
      backend->CopyToHost((*buffer)->data(), got.data(), (*buffer)->bytes())
          .ok());
  ASSERT_TRUE(backend->Synchronize().ok());
  int64_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) wrong += ToFloat(got[i]) != i % 251;
  EXPECT_EQ(wrong, 0);
}

TEST(CudaBackendTest, SwapsAreDoneBeforeWhatReadsTheirBlocks) {
  // Out, overwritten, in again, copied: each step needs the one before.
  const auto backend = Make(DType::kF32);
  const int64_t block_bytes = 1 << 20, blocks = 64;
  const auto cache = *backend->Allocate(blocks * block_bytes);
  const auto pool = *backend->AllocateHost(blocks * block_bytes);
  const auto host = *backend->AllocateHost(blocks * block_bytes);
  for (int64_t i = 0; i < blocks * block_bytes; ++i) {
    host->as<uint8_t>()[i] = i / block_bytes * 3 + i % 5;
  }
  ASSERT_TRUE(
      backend->CopyToDevice(host->data(), cache->data(), blocks * block_bytes)
          .ok());
  std::vector<BlockPair> out, overwrite, in, move;
  for (int32_t i = 0; i < 16; ++i) {
    out.push_back({2 * i, 15 - i});    // even blocks of the first half
    overwrite.push_back({40, 2 * i});  // by block 40
    in.push_back({15 - i, 48 + i});
    move.push_back({48 + i, 2 * i});
  }
  const auto params = [&](const DeviceBuffer& src, const DeviceBuffer& dst,
                          const std::vector<BlockPair>& pairs) {
    return BlockCopyParams{src.data(), dst.data(), pairs.data(), block_bytes,
                           static_cast<int32_t>(pairs.size())};
  };
  ASSERT_TRUE(backend->SwapOutBlocks(params(*cache, *pool, out)).ok());
  ASSERT_TRUE(backend->CopyBlocks(params(*cache, *cache, overwrite)).ok());
  ASSERT_TRUE(backend->SwapInBlocks(params(*pool, *cache, in)).ok());
  ASSERT_TRUE(backend->CopyBlocks(params(*cache, *cache, move)).ok());
  std::vector<uint8_t> got(32 * block_bytes);
  ASSERT_TRUE(
      backend->CopyToHost(cache->data(), got.data(), 32 * block_bytes).ok());
  ASSERT_TRUE(backend->Synchronize().ok());
  EXPECT_EQ(std::memcmp(got.data(), host->data(), 32 * block_bytes), 0);
}

// In a process of its own, which the error ruins.
void MeetAnIllegalAddress() {
  const auto backend = CreateCudaBackend({.dtype = DType::kBf16});
  if (!backend.ok()) std::exit(2);
  auto* const nowhere = reinterpret_cast<void*>(uintptr_t{1} << 44);
  const absl::Status enqueued =
      (*backend)->Add({nowhere, DType::kBf16, nowhere, nowhere, 1 << 20});
  const absl::Status first = (*backend)->Synchronize();
  const absl::Status again = (*backend)->Synchronize();
  std::fprintf(stderr, "%s\n", std::string(first.message()).c_str());
  std::exit(enqueued.ok() && absl::IsInternal(first) && first == again ? 0 : 1);
}

TEST(CudaBackendDeathTest, AnErrorThatPoisonsTheDeviceStays) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(MeetAnIllegalAddress(), testing::ExitedWithCode(0), "illegal");
}

// The same bits, launched one by one and as a recording.
TEST(CudaBackendTest, ARecordingComputesWhatItsOperationsDo) {
  const auto backend = *CreateCudaBackend({.dtype = DType::kF32});
  constexpr int kCount = 1000;
  const Tensor a = Tensor::Random(DType::kF32, kCount, 1);
  const auto x = *backend->Allocate(kCount * 4);
  const auto sum = *backend->Allocate(kCount * 4);
  ASSERT_TRUE(backend->CopyToDevice(a.data(), x->data(), kCount * 4).ok());
  const auto twice = [&] {
    const absl::Status once =
        backend->Add({x->data(), DType::kF32, x->data(), sum->data(), kCount});
    return once.ok() ? backend->Add({sum->data(), DType::kF32, x->data(),
                                     sum->data(), kCount})
                     : once;
  };
  const auto recording = backend->Record(twice);
  ASSERT_TRUE(recording.ok()) << recording.status();
  std::vector<float> got(kCount), want(kCount);
  ASSERT_TRUE(twice().ok());
  ASSERT_TRUE(backend->CopyToHost(sum->data(), want.data(), kCount * 4).ok());
  ASSERT_TRUE(backend->Replay(recording->get()).ok());
  ASSERT_TRUE(backend->CopyToHost(sum->data(), got.data(), kCount * 4).ok());
  ASSERT_TRUE(backend->Mark(1).ok());
  ASSERT_TRUE(backend->WaitForMark(1).ok());
  EXPECT_EQ(got, want);
  EXPECT_FLOAT_EQ(got[7], 3 * static_cast<float>(a[7]));
}

// Work of milliseconds, so that whoever waits has to nap.
TEST(CudaBackendTest, WhoSleepsBetweenLooksSeesTheEndOfAllWork) {
  const auto backend =
      *CreateCudaBackend({.dtype = DType::kF32, .wait = DeviceWait::kSleep});
  constexpr int64_t kCount = 1 << 24;
  constexpr int kTimes = 100;
  std::vector<float> host(kCount, 1.0f);
  const auto one = *backend->Allocate(kCount * 4);
  const auto sum = *backend->Allocate(kCount * 4);
  ASSERT_TRUE(backend->CopyToDevice(host.data(), one->data(), kCount * 4).ok());
  ASSERT_TRUE(backend->CopyToDevice(host.data(), sum->data(), kCount * 4).ok());
  const AddParams add = {sum->data(), DType::kF32, one->data(), sum->data(),
                         kCount};
  for (int i = 0; i < kTimes; ++i) ASSERT_TRUE(backend->Add(add).ok());
  ASSERT_TRUE(backend->Mark(0).ok());
  ASSERT_TRUE(backend->WaitForMark(0).ok());
  for (int i = 0; i < kTimes; ++i) ASSERT_TRUE(backend->Add(add).ok());
  ASSERT_TRUE(backend->Synchronize().ok());
  ASSERT_TRUE(backend->CopyToHost(sum->data(), host.data(), kCount * 4).ok());
  ASSERT_TRUE(backend->Synchronize().ok());
  EXPECT_EQ(host.front(), 1 + 2 * kTimes);
  EXPECT_EQ(host.back(), 1 + 2 * kTimes);
}

TEST(CudaBackendTest, OperationsAreTimedByName) {
  const auto backend =
      *CreateCudaBackend({.dtype = DType::kF32, .times_operations = true});
  const auto x = *backend->Allocate(4096);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(
        backend->Add({x->data(), DType::kF32, x->data(), x->data(), 1024})
            .ok());
  }
  ASSERT_TRUE(backend->Synchronize().ok());
  const auto times = backend->TakeOperationTimes();
  ASSERT_EQ(times.size(), 1);
  EXPECT_EQ(times[0].name, "addition");
  EXPECT_EQ(times[0].count, 3);
  EXPECT_GT(times[0].seconds, 0);
  EXPECT_TRUE(backend->TakeOperationTimes().empty());
}

TEST(CudaBackendDeathTest, StackedMatricesOfUnequalWidthAreABug) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const Tensor w = Tensor::Random(DType::kF32, 16, 1);
  const HostMatrix stack[] = {{w.data(), DType::kF32, 2, 4, 4},
                              {w.data(), DType::kF32, 2, 3, 3}};
  EXPECT_DEATH((void)Make(DType::kF32)->PackWeight(stack), "cols");
}

}  // namespace
}  // namespace quire
