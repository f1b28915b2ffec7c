// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/host_memory.h"

#include <cstdint>
#include <utility>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(HostMemoryTest, IsAlignedAndWritableToItsLastByte) {
  for (int64_t bytes : {0, 1, 64, 100, (4 << 20) - 1, 4 << 20, 9999999}) {
    auto memory = HostMemory::Allocate(bytes);
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_EQ(memory->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->data()) % 64, 0);
    volatile char* data = static_cast<char*>(memory->data());
    for (int64_t i = 0; i < bytes; i += 4096) data[i] = 1;
    if (bytes > 0) data[bytes - 1] = 2;
  }
}

TEST(HostMemoryTest, MovesLeaveOneOwner) {
  auto memory = HostMemory::Allocate(100);
  ASSERT_TRUE(memory.ok()) << memory.status();
  void* const data = memory->data();
  HostMemory first = *std::move(memory);
  HostMemory second;
  second = std::move(first);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.bytes(), 100);
}

TEST(HostMemoryTest, MoreThanThereAreAddressesIsResourceExhausted) {
  EXPECT_EQ(HostMemory::Allocate(int64_t{1} << 56).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace quire
