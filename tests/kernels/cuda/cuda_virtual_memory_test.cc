// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_virtual_memory.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "cuda_runtime_api.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int64_t kPageBytes = 2 << 20;
constexpr int64_t kAddresses = 16;  // pages
constexpr int64_t kPages = 6;

class CudaVirtualMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    auto memory = CudaVirtualMemory::Reserve(
        {kAddresses * kPageBytes, kPageBytes, kPages}, /*device=*/0);
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
  }

  void Fill(int64_t page, uint8_t value) {
    ASSERT_EQ(cudaMemset(At(page), value, kPageBytes), cudaSuccess);
  }
  bool Holds(int64_t page, uint8_t value) {
    std::vector<uint8_t> bytes(kPageBytes);
    EXPECT_EQ(
        cudaMemcpy(bytes.data(), At(page), kPageBytes, cudaMemcpyDeviceToHost),
        cudaSuccess);
    return std::all_of(bytes.begin(), bytes.end(),
                       [&](uint8_t byte) { return byte == value; });
  }
  char* At(int64_t page) {
    return static_cast<char*>(memory_->data()) + page * kPageBytes;
  }
  const CudaVirtualMemoryStats& stats() {
    return static_cast<CudaVirtualMemory*>(memory_.get())->stats();
  }

  std::unique_ptr<VirtualMemory> memory_;
};

TEST_F(CudaVirtualMemoryTest, MappedPagesKeepWhatIsWritten) {
  ASSERT_TRUE(memory_->Map(2, 3).ok());
  ASSERT_TRUE(memory_->Map(9, 1).ok());
  EXPECT_EQ(memory_->num_mapped(), 4);
  for (int64_t page : {2, 3, 4, 9}) Fill(page, static_cast<uint8_t>(page));
  for (int64_t page : {2, 3, 4, 9}) {
    EXPECT_TRUE(Holds(page, static_cast<uint8_t>(page))) << page;
  }
  // One copy over the border of two pages.
  ASSERT_EQ(cudaMemset(At(3) - 100, 77, 200), cudaSuccess);
}

TEST_F(CudaVirtualMemoryTest, NoMorePagesThanThereAre) {
  ASSERT_TRUE(memory_->Map(0, 4).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(memory_->Map(8, 3)));
  EXPECT_TRUE(memory_->Map(8, 2).ok());
}

TEST_F(CudaVirtualMemoryTest, ARowUsedAgainFindsItsMemoryThere) {
  ASSERT_TRUE(memory_->Map(0, 4).ok());
  ASSERT_TRUE(memory_->Unmap(0, 4).ok());
  EXPECT_EQ(memory_->num_mapped(), 0);
  ASSERT_TRUE(memory_->Map(0, 5).ok());
  EXPECT_EQ(stats().num_reused, 4);
  EXPECT_EQ(stats().num_driver_maps, 5);
  EXPECT_EQ(stats().num_driver_unmaps, 0);
  Fill(4, 9);
  EXPECT_TRUE(Holds(4, 9));
}

TEST_F(CudaVirtualMemoryTest, AnotherRowTakesWhatWasGivenBackFirst) {
  ASSERT_TRUE(memory_->Map(0, 3).ok());
  ASSERT_TRUE(memory_->Map(4, 3).ok());
  Fill(4, 44);
  ASSERT_TRUE(memory_->Unmap(0, 3).ok());
  ASSERT_TRUE(memory_->Unmap(5, 2).ok());
  // Two of the first row's, from its end.
  ASSERT_TRUE(memory_->Map(8, 2).ok());
  EXPECT_EQ(stats().num_driver_unmaps, 2);
  Fill(8, 8);
  Fill(9, 9);
  ASSERT_TRUE(memory_->Map(0, 1).ok());
  EXPECT_EQ(stats().num_reused, 1);
  Fill(0, 1);
  ASSERT_TRUE(memory_->Map(5, 2).ok());
  EXPECT_EQ(stats().num_reused, 3);
  EXPECT_TRUE(Holds(4, 44));
  EXPECT_TRUE(Holds(8, 8));
  EXPECT_TRUE(Holds(9, 9));
}

TEST_F(CudaVirtualMemoryTest, PagesComeAndGoWhileOthersAreRead) {
  ASSERT_TRUE(memory_->Map(15, 1).ok());
  Fill(15, 3);
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  for (int round = 0; round < 200; ++round) {
    for (int copy = 0; copy < 4; ++copy) {
      ASSERT_EQ(cudaMemcpyAsync(At(15) + kPageBytes / 2, At(15), kPageBytes / 2,
                                cudaMemcpyDeviceToDevice, stream),
                cudaSuccess);
    }
    const int64_t row = round % 3 * 5;
    ASSERT_TRUE(memory_->Map(row, 5).ok());
    ASSERT_TRUE(memory_->Unmap(row, 5).ok());
  }
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_TRUE(Holds(15, 3));
  EXPECT_EQ(stats().num_driver_maps - stats().num_driver_unmaps, kPages);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(CudaVirtualMemoryTest, WhatIsEnqueuedEndsBeforeItsMemoryGoes) {
  ASSERT_TRUE(memory_->Map(0, 6).ok());
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(cudaMemsetAsync(At(0), i, 6 * kPageBytes), cudaSuccess);
  }
  memory_.reset();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST(CudaVirtualMemoryReserveTest, WhatDoesNotFitIsRefused) {
  const auto reserve = [](int64_t addresses, int64_t page, int64_t pages) {
    return CudaVirtualMemory::Reserve({addresses, page, pages}, 0)
        .status()
        .code();
  };
  EXPECT_EQ(reserve(kPageBytes, 4096, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(reserve(3 << 20, kPageBytes, 1),
            absl::StatusCode::kInvalidArgument);
  // A tebibyte of memory.
  EXPECT_EQ(reserve(kPageBytes, kPageBytes, 1 << 19),
            absl::StatusCode::kResourceExhausted);
}

TEST(CudaVirtualMemoryDeathTest, MappingTwiceIsABug) {
  auto memory =
      CudaVirtualMemory::Reserve({kPageBytes, kPageBytes, 1}, /*device=*/0);
  ASSERT_TRUE(memory.ok());
  ASSERT_TRUE((*memory)->Map(0, 1).ok());
  EXPECT_DEATH((void)(*memory)->Map(0, 1), "page 0");
}

}  // namespace
}  // namespace quire
