// SPDX-License-Identifier: Apache-2.0
//
// Which prefixes a pool has, told to other threads: the keys of a prefix
// index's nodes that have a place, as 64-bit marks in a table of atomics. One
// thread writes, at the pace of its steps and without a lock; any number read
// meanwhile. What they read is a hint: a step old, without what did not fit
// (next to nothing), and wrong about a key in 2^64.
#ifndef COORDINATOR_KV_PREFIX_SUMMARY_H_
#define COORDINATOR_KV_PREFIX_SUMMARY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/kv/block_key.h"

namespace quire {

class PrefixSummary {
 public:
  // What was there when it was made, and what is written to it while it lives.
  class Reading;

  PrefixSummary();

  // Of the writer. Forgets everything; `num_blocks` keys are to be expected.
  // Readings that live go on with what was there.
  void Reset(int64_t num_blocks) ABSL_LOCKS_EXCLUDED(mutex_);
  // A few loads and a store. A key is added once before it is removed.
  void Add(const BlockKey& key);
  void Remove(const BlockKey& key);

  // Thread-safe.
  Reading Read() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // A bucket is a line of memory. A key lies in its own or, when that is full,
  // in the next. There are so many that a bucket has two keys on average, and
  // both of a pair are full for no pool in practice.
  static constexpr int kBucketWords = 8;
  struct Free {
    void operator()(uint64_t* words) const { std::free(words); }
  };
  struct Table {
    explicit Table(size_t num_buckets);

    // The `idx`th word that may hold the key, [0, 2 * kBucketWords).
    std::atomic_ref<uint64_t> Word(const BlockKey& key, int idx) const {
      const size_t bucket = (key.low + idx / kBucketWords) & mask;
      return std::atomic_ref<uint64_t>(
          words[bucket * kBucketWords + idx % kBucketWords]);
    }
    bool Has(const BlockKey& key) const;

    const size_t mask;
    // Memory that the system has zeroed and gives when it is touched: a pool of
    // small blocks may never have as many keys as it expects.
    const std::unique_ptr<uint64_t[], Free> memory;
    uint64_t* const words;  // 0: empty; where the memory's first line begins
  };
  static uint64_t MarkOf(const BlockKey& key) {
    return key.high == 0 ? 1 : key.high;
  }

  Table* written_;  // the writer's way to table_
  mutable absl::Mutex mutex_;
  // Shared with readings, which outlive a Reset.
  std::shared_ptr<Table> table_ ABSL_GUARDED_BY(mutex_);
};

class PrefixSummary::Reading {
 public:
  bool Has(const BlockKey& key) const { return table_->Has(key); }

 private:
  friend class PrefixSummary;
  explicit Reading(std::shared_ptr<const Table> table)
      : table_(std::move(table)) {}

  std::shared_ptr<const Table> table_;
};

}  // namespace quire

#endif  // COORDINATOR_KV_PREFIX_SUMMARY_H_
