// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_backend.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cpu/backends.h"
#include "tests/kernels/tensor.h"

namespace quire {
namespace {

TEST(CpuBackendTest, SaysWhatItIs) {
  const auto backend = MakeCpuBackend(DType::kBf16);
  EXPECT_EQ(backend->name(), "cpu");
  EXPECT_EQ(backend->dtype(), DType::kBf16);
  EXPECT_EQ(backend->partial_dtype(), DType::kF32);
  EXPECT_TRUE(backend->Synchronize().ok());
}

TEST(CpuBackendTest, ANegativeThreadCountIsRefused) {
  EXPECT_EQ(CpuBackend::Create({.num_threads = -1}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CpuBackendTest, AllocatesAlignedMemoryThatCanBeWritten) {
  const auto backend = MakeCpuBackend(DType::kF32);
  for (int64_t bytes : {0, 1, 63, 4096, 10 << 20}) {
    auto buffer = backend->Allocate(bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ((*buffer)->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*buffer)->data()) % 64, 0);
    std::memset((*buffer)->data(), 1, bytes);
    auto host = backend->AllocateHost(bytes);
    ASSERT_TRUE(host.ok()) << host.status();
    ASSERT_TRUE(
        backend->CopyToHost((*buffer)->data(), (*host)->data(), bytes).ok());
    EXPECT_EQ(std::memcmp((*host)->data(), (*buffer)->data(), bytes), 0);
  }
}

TEST(CpuBackendTest, MoreMemoryThanAddressesIsResourceExhausted) {
  const auto backend = MakeCpuBackend(DType::kF32);
  EXPECT_EQ(backend->Allocate(int64_t{1} << 56).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(CpuBackendTest, ReportsMemory) {
  const auto info = MakeCpuBackend(DType::kF32)->GetMemoryInfo();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_GT(info->free_bytes, 0);
}

TEST(CpuBackendTest, UploadStacksAndConvertsRows) {
  for (DType dtype : {DType::kF32, DType::kBf16}) {
    const auto backend = MakeCpuBackend(dtype);
    const Tensor a = Tensor::Random(DType::kF32, 100 * 9, 1);
    const Tensor b = Tensor::Random(DType::kBf16, 2 * 9, 2);
    // Columns 1 to 7 of 9.
    const HostMatrix stack[] = {{a.At(1), DType::kF32, 100, 7, 9},
                                {b.At(1), DType::kBf16, 2, 7, 9}};
    auto buffer = backend->Upload(stack);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    Tensor got(dtype, 102 * 7), want(dtype, 102 * 7);
    ASSERT_EQ((*buffer)->bytes(), got.size() * SizeOf(dtype));
    std::memcpy(got.data(), (*buffer)->data(), (*buffer)->bytes());
    for (int64_t i = 0; i < want.size(); ++i) {
      const int64_t row = i / 7, column = 1 + i % 7;
      want.Set(i,
               row < 100 ? a[row * 9 + column] : b[(row - 100) * 9 + column]);
    }
    EXPECT_TRUE(got.SameBits(want));
  }
}

TEST(CpuBackendDeathTest, StackedMatricesOfUnequalWidthAreABug) {
  const auto backend = MakeCpuBackend(DType::kF32);
  const Tensor w = Tensor::Random(DType::kF32, 16, 1);
  const HostMatrix stack[] = {{w.data(), DType::kF32, 2, 4, 4},
                              {w.data(), DType::kF32, 2, 3, 3}};
  EXPECT_DEATH((void)backend->PackWeight(stack), "cols");
}

}  // namespace
}  // namespace quire
