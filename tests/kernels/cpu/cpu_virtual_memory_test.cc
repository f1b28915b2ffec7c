// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_virtual_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

const int64_t kSystemPage = sysconf(_SC_PAGESIZE);

// System pages of the range that lie in memory.
int64_t NumResident(const VirtualMemory& memory) {
  const int64_t bytes = memory.options().reserved_bytes;
  std::vector<unsigned char> resident(bytes / kSystemPage);
  EXPECT_EQ(mincore(memory.data(), bytes, resident.data()), 0);
  int64_t num = 0;
  for (unsigned char page : resident) num += page & 1;
  return num;
}

char* PageOf(const VirtualMemory& memory, int64_t page) {
  return static_cast<char*>(memory.data()) + page * memory.options().page_bytes;
}

TEST(CpuVirtualMemoryTest, PagesComeAndGoInPlace) {
  const auto memory =
      *CpuVirtualMemory::Reserve({.reserved_bytes = 64 * kSystemPage,
                                  .page_bytes = 2 * kSystemPage,
                                  .num_pages = 8});
  EXPECT_EQ(NumResident(*memory), 0);
  ASSERT_TRUE(memory->Map(3, 2).ok());
  EXPECT_EQ(memory->num_mapped(), 2);
  EXPECT_EQ(NumResident(*memory), 4);  // before anything was written
  *PageOf(*memory, 3) = 7;
  ASSERT_TRUE(memory->Map(5, 1).ok());
  EXPECT_EQ(*PageOf(*memory, 3), 7);
  ASSERT_TRUE(memory->Unmap(4, 2).ok());
  EXPECT_EQ(NumResident(*memory), 2);
  EXPECT_EQ(*PageOf(*memory, 3), 7);
}

TEST(CpuVirtualMemoryTest, NoMoreThanThePagesThereAre) {
  const auto memory =
      *CpuVirtualMemory::Reserve({.reserved_bytes = 16 * kSystemPage,
                                  .page_bytes = kSystemPage,
                                  .num_pages = 4});
  ASSERT_TRUE(memory->Map(0, 3).ok());
  const absl::Status status = memory->Map(8, 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "want 2 pages, 3 of 4 are mapped");
  EXPECT_TRUE(memory->Map(8, 1).ok());
}

TEST(CpuVirtualMemoryTest, SizesThatMakeNoSenseAreRefused) {
  for (const VirtualMemoryOptions& options :
       {VirtualMemoryOptions{4096, 100, 1}, VirtualMemoryOptions{0, 4096, 1},
        VirtualMemoryOptions{kSystemPage * 3, kSystemPage * 2, 1},
        VirtualMemoryOptions{kSystemPage, kSystemPage, 0}}) {
    EXPECT_EQ(CpuVirtualMemory::Reserve(options).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(CpuVirtualMemoryDeathTest, APageThatIsNotMappedFaults) {
  const auto memory =
      *CpuVirtualMemory::Reserve({.reserved_bytes = 4 * kSystemPage,
                                  .page_bytes = kSystemPage,
                                  .num_pages = 4});
  EXPECT_DEATH(*PageOf(*memory, 0) = 1, "");
  ASSERT_TRUE(memory->Map(0, 1).ok());
  *PageOf(*memory, 0) = 1;
  EXPECT_DEATH(*PageOf(*memory, 1) = 1, "");
  ASSERT_TRUE(memory->Unmap(0, 1).ok());
  EXPECT_DEATH(*PageOf(*memory, 0) = 1, "");
}

TEST(CpuVirtualMemoryTest, ContentsAreThoseOfTheNaiveModel) {
  constexpr int64_t kPages = 40;
  std::mt19937 random(1);
  const auto memory =
      *CpuVirtualMemory::Reserve({.reserved_bytes = kPages * kSystemPage,
                                  .page_bytes = kSystemPage,
                                  .num_pages = kPages});
  std::vector<int> naive(kPages, -1);  // what was written; -1: not mapped
  int64_t num_mapped = 0;
  for (int operation = 0; operation < 20000; ++operation) {
    const int64_t page = random() % kPages;
    if (naive[page] < 0) {
      ASSERT_TRUE(memory->Map(page, 1).ok());
      naive[page] = random() % 100;
      *PageOf(*memory, page) = static_cast<char>(naive[page]);
      ++num_mapped;
    } else {
      ASSERT_EQ(*PageOf(*memory, page), naive[page]);
      ASSERT_TRUE(memory->Unmap(page, 1).ok());
      naive[page] = -1;
      --num_mapped;
    }
    ASSERT_EQ(memory->num_mapped(), num_mapped);
  }
  EXPECT_EQ(NumResident(*memory), num_mapped);
}

}  // namespace
}  // namespace quire
