// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/prefix_summary.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "glog/logging.h"

namespace quire {

namespace {

constexpr uintptr_t kLineBytes = 64;

uint64_t* AtLine(uint64_t* memory) {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  return memory + (-address & (kLineBytes - 1)) / sizeof(uint64_t);
}

}  // namespace

PrefixSummary::Table::Table(size_t num_buckets)
    : mask(num_buckets - 1),
      memory(static_cast<uint64_t*>(
          std::calloc((num_buckets + 1) * kBucketWords, sizeof(uint64_t)))),
      words(AtLine(memory.get())) {
  static_assert(kBucketWords * sizeof(uint64_t) == kLineBytes);
  CHECK(memory != nullptr) << "no host memory for " << num_buckets
                           << " lines of prefixes";
}

bool PrefixSummary::Table::Has(const BlockKey& key) const {
  const uint64_t mark = MarkOf(key);
  for (int idx = 0; idx < 2 * kBucketWords; ++idx) {
    if (Word(key, idx).load(std::memory_order_relaxed) == mark) return true;
  }
  return false;
}

PrefixSummary::PrefixSummary()
    : written_(nullptr), table_(std::make_shared<Table>(/*num_buckets=*/1)) {
  absl::MutexLock lock(&mutex_);
  written_ = table_.get();
}

void PrefixSummary::Reset(int64_t num_blocks) {
  const uint64_t num_buckets =
      std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(1, num_blocks)) /
                        (kBucketWords / 4) +
                    1);
  auto table = std::make_shared<Table>(num_buckets);
  absl::MutexLock lock(&mutex_);
  std::swap(table_, table);
  written_ = table_.get();
}

void PrefixSummary::Add(const BlockKey& key) {
  for (int idx = 0; idx < 2 * kBucketWords; ++idx) {
    const std::atomic_ref<uint64_t> word = written_->Word(key, idx);
    if (word.load(std::memory_order_relaxed) != 0) continue;
    word.store(MarkOf(key), std::memory_order_relaxed);
    return;
  }
}

void PrefixSummary::Remove(const BlockKey& key) {
  const uint64_t mark = MarkOf(key);
  for (int idx = 0; idx < 2 * kBucketWords; ++idx) {
    const std::atomic_ref<uint64_t> word = written_->Word(key, idx);
    if (word.load(std::memory_order_relaxed) != mark) continue;
    word.store(0, std::memory_order_relaxed);
    return;
  }
}

PrefixSummary::Reading PrefixSummary::Read() const {
  absl::MutexLock lock(&mutex_);
  return Reading(table_);
}

}  // namespace quire
