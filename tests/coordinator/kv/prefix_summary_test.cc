// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/prefix_summary.h"

#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <thread>
#include <vector>

#include "coordinator/kv/prefix_index.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr HashKey kHashKey = {1, 2};

std::vector<BlockKey> Chain(int num_keys) {
  std::vector<BlockKey> keys;
  BlockKey key = ScopeKey(kHashKey, /*scope=*/7);
  for (TokenId t = 0; t < num_keys; ++t) {
    keys.push_back(key = ChainKey(kHashKey, key, {t}));
  }
  return keys;
}

// Memory that this process has touched.
int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t num_pages = 0, num_resident = 0;
  statm >> num_pages >> num_resident;
  return num_resident * sysconf(_SC_PAGESIZE);
}

TEST(PrefixSummaryTest, HasWhatWasAddedAndNotWhatWasRemoved) {
  PrefixSummary summary;
  summary.Reset(1000);
  const std::vector<BlockKey> keys = Chain(2000);
  for (int i = 0; i < 1000; ++i) summary.Add(keys[i]);
  for (int i = 0; i < 1000; i += 2) summary.Remove(keys[i]);
  const PrefixSummary::Reading reading = summary.Read();
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(reading.Has(keys[i]), i % 2 == 1) << i;
  }
  for (int i = 1000; i < 2000; ++i) EXPECT_FALSE(reading.Has(keys[i])) << i;
}

TEST(PrefixSummaryTest, AFullPoolLosesNoKey) {
  constexpr int kNumBlocks = 50000;
  PrefixSummary summary;
  summary.Reset(kNumBlocks);
  const std::vector<BlockKey> keys = Chain(kNumBlocks);
  for (const BlockKey& key : keys) summary.Add(key);
  int num_lost = 0;
  for (const BlockKey& key : keys) num_lost += !summary.Read().Has(key);
  EXPECT_EQ(num_lost, 0);
}

// Of a table of 128 MiB, here by a key in each of its pages of 64 lines.
TEST(PrefixSummaryTest, MemoryComesWithTheKeys) {
  PrefixSummary summary;
  summary.Reset(4'000'000);
  const int64_t before = ResidentBytes();
  ASSERT_GT(before, 0);
  for (uint64_t page = 0; page < 32768; ++page) {
    summary.Add({.low = page * 64, .high = page});
  }
  EXPECT_GT(ResidentBytes() - before, 100 << 20);
}

TEST(PrefixSummaryTest, ResetForgetsButNotInReadingsThatLive) {
  PrefixSummary summary;
  summary.Reset(4);
  const BlockKey key = Chain(1)[0];
  summary.Add(key);
  const PrefixSummary::Reading before = summary.Read();
  summary.Reset(4);
  EXPECT_FALSE(summary.Read().Has(key));
  EXPECT_TRUE(before.Has(key));
}

TEST(PrefixSummaryTest, IsReadWhileItIsWritten) {
  PrefixSummary summary;
  summary.Reset(64);
  const std::vector<BlockKey> keys = Chain(64);
  summary.Add(keys[0]);
  std::thread reader([&] {
    const PrefixSummary::Reading reading = summary.Read();
    for (int round = 0; round < 1000; ++round) {
      ASSERT_TRUE(reading.Has(keys[0]));
    }
  });
  for (int round = 0; round < 100; ++round) {
    for (int i = 1; i < 64; ++i) summary.Add(keys[i]);
    for (int i = 1; i < 64; ++i) summary.Remove(keys[i]);
  }
  reader.join();
  EXPECT_FALSE(summary.Read().Has(keys[1]));
}

TEST(PrefixSummaryTest, FollowsAnIndexesPlaces) {
  PrefixSummary summary;
  PrefixIndex index(/*block_size=*/1, /*num_blocks=*/4, kHashKey, &summary);
  const std::vector<BlockKey> keys = Chain(2);
  const PrefixNodeId first = index.FindOrInsert(7, PrefixIndex::kNoNode, {0});
  const PrefixNodeId second = index.FindOrInsert(7, first, {1});
  EXPECT_FALSE(summary.Read().Has(keys[0]));  // no place yet
  index.SetPlace(first, BlockPlace(BlockId(3)));
  index.SetPlace(second, BlockPlace(HostBlockId(0)));
  EXPECT_TRUE(summary.Read().Has(keys[0]));
  EXPECT_TRUE(summary.Read().Has(keys[1]));
  index.SetPlace(second, BlockPlace(BlockId(1)));  // moved, not gone
  EXPECT_TRUE(summary.Read().Has(keys[1]));
  index.SetPlace(first, BlockPlace());
  EXPECT_FALSE(summary.Read().Has(keys[0]));
  EXPECT_TRUE(summary.Read().Has(keys[1]));
  index.Unpin(second);
  index.Unpin(first);
}

}  // namespace
}  // namespace quire
