// SPDX-License-Identifier: Apache-2.0
#include "worker/kv/page_mapper.h"

#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

// Counts, and checks that nothing is mapped twice or unmapped twice.
class CountingMemory final : public VirtualMemory {
 public:
  explicit CountingMemory(int64_t num_addresses, int64_t num_pages)
      : VirtualMemory(nullptr, {.reserved_bytes = num_addresses,
                                .page_bytes = 1,
                                .num_pages = num_pages}),
        is_mapped_(num_addresses) {}

  absl::Status Map(int64_t first, int64_t n) override {
    if (num_mapped_ + n > options().num_pages) {
      return absl::ResourceExhaustedError("no page is left");
    }
    Set(first, n, true);
    num_mapped_ += n;
    return absl::OkStatus();
  }
  absl::Status Unmap(int64_t first, int64_t n) override {
    Set(first, n, false);
    num_mapped_ -= n;
    return absl::OkStatus();
  }
  int64_t num_mapped() const override { return num_mapped_; }
  bool is_mapped(int64_t page) const { return is_mapped_[page]; }

 private:
  void Set(int64_t first, int64_t n, bool mapped) {
    for (int64_t page = first; page < first + n; ++page) {
      EXPECT_NE(is_mapped_[page], mapped) << "page " << page;
      is_mapped_[page] = mapped;
    }
  }

  std::vector<bool> is_mapped_;
  int64_t num_mapped_ = 0;
};

TEST(PageMapperTest, ARowsGroupsAreItsFirstPages) {
  RealClock clock;
  CountingMemory memory(/*num_addresses=*/3 * 4 * 2, /*num_pages=*/24);
  PageMapper mapper(&memory, /*num_rows=*/3, /*row_groups=*/4,
                    /*group_pages=*/2, &clock);
  mapper.Post({{CacheRowId(1), 3}, {CacheRowId(2), 1}});
  ASSERT_TRUE(mapper.Await(1, 3).ok());
  ASSERT_TRUE(mapper.AwaitAll().ok());
  for (int64_t page = 0; page < 24; ++page) {
    EXPECT_EQ(memory.is_mapped(page),
              (page >= 8 && page < 14) || (page >= 16 && page < 18))
        << page;
  }
  EXPECT_EQ(mapper.stats().num_mapped_pages, 8);
}

TEST(PageMapperTest, WhatNobodyPostedIsAContradiction) {
  RealClock clock;
  CountingMemory memory(8, 8);
  PageMapper mapper(&memory, 2, 4, 1, &clock);
  mapper.Post({{CacheRowId(0), 2}});
  EXPECT_TRUE(mapper.Await(0, 2).ok());
  EXPECT_EQ(mapper.Await(0, 3).message(),
            "cache row 0 needs 3 page groups, 2 have memory");
}

TEST(PageMapperTest, ARowThatLosesItsMemoryAndGetsItAgainIsWaitedFor) {
  RealClock clock;
  for (int repeat = 0; repeat < 200; ++repeat) {
    CountingMemory memory(8, 8);
    PageMapper mapper(&memory, 2, 4, 1, &clock);
    mapper.Post({{CacheRowId(0), 4}});
    ASSERT_TRUE(mapper.AwaitAll().ok());
    mapper.Post({{CacheRowId(0), 0}, {CacheRowId(1), 4}, {CacheRowId(0), 2}});
    ASSERT_TRUE(mapper.Await(0, 2).ok());
    // Had the wait been for the old memory, this would not have happened yet.
    EXPECT_TRUE(memory.is_mapped(0) && memory.is_mapped(1));
    EXPECT_FALSE(memory.is_mapped(2));
  }
}

TEST(PageMapperTest, AFailureOfTheDeviceIsEverybodysAnswer) {
  RealClock clock;
  CountingMemory memory(8, /*num_pages=*/3);
  PageMapper mapper(&memory, 2, 4, 1, &clock);
  mapper.Post({{CacheRowId(0), 2}, {CacheRowId(1), 2}, {CacheRowId(0), 3}});
  EXPECT_EQ(mapper.Await(1, 2).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(mapper.Await(0, 3).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(mapper.AwaitAll().code(), absl::StatusCode::kResourceExhausted);
}

TEST(PageMapperTest, PagesAreThoseOfTheNaiveModelOverRandomMappings) {
  constexpr int32_t kRows = 6;
  constexpr int32_t kGroups = 5;
  RealClock clock;
  CountingMemory memory(kRows * kGroups * 3, kRows * kGroups * 3);
  std::vector<int32_t> naive(kRows);
  std::mt19937 random(1);
  PageMapper mapper(&memory, kRows, kGroups, 3, &clock);
  for (int operation = 0; operation < 20000; ++operation) {
    const int32_t row = random() % kRows;
    naive[row] = random() % (kGroups + 1);
    mapper.Post({{CacheRowId(row), naive[row]}});
    if (random() % 4 == 0) {
      const int32_t other = random() % kRows;
      ASSERT_TRUE(mapper.Await(other, naive[other]).ok());
    }
  }
  ASSERT_TRUE(mapper.AwaitAll().ok());
  int64_t num_mapped = 0;
  for (int32_t row = 0; row < kRows; ++row) {
    num_mapped += naive[row] * 3;
    for (int32_t page = 0; page < kGroups * 3; ++page) {
      EXPECT_EQ(memory.is_mapped(row * kGroups * 3 + page),
                page < naive[row] * 3);
    }
  }
  EXPECT_EQ(memory.num_mapped(), num_mapped);
  const PageMapperStats stats = mapper.stats();
  EXPECT_EQ(stats.num_mapped_pages - stats.num_unmapped_pages, num_mapped);
}

}  // namespace
}  // namespace quire
