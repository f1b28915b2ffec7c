// SPDX-License-Identifier: Apache-2.0
#include "worker/kv/page_mapper.h"

#include <pthread.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {

PageMapper::PageMapper(VirtualMemory* memory, int32_t num_rows,
                       int32_t row_groups, int32_t group_pages,
                       const Clock* clock)
    : memory_(memory),
      row_groups_(row_groups),
      group_pages_(group_pages),
      clock_(clock),
      mapped_(num_rows),
      thread_([this] { Loop(); }) {}

PageMapper::~PageMapper() {
  {
    absl::MutexLock lock(&mutex_);
    is_stopped_ = true;
  }
  thread_.join();
}

void PageMapper::Post(absl::Span<const RowMapping> mappings) {
  if (mappings.empty()) return;
  absl::MutexLock lock(&mutex_);
  for (const RowMapping& mapping : mappings) {
    CHECK_LT(static_cast<uint32_t>(mapping.row.value()), mapped_.size());
    CHECK_LE(static_cast<uint32_t>(mapping.num_page_groups),
             static_cast<uint32_t>(row_groups_));
    posted_.push_back(mapping);
  }
}

int32_t PageMapper::LeastMapped(int32_t row) const {
  int32_t least = mapped_[row];
  for (const RowMapping& mapping : posted_) {
    if (mapping.row.value() == row) {
      least = std::min(least, mapping.num_page_groups);
    }
  }
  return least;
}

absl::Status PageMapper::Await(int32_t row, int32_t num_groups) {
  absl::MutexLock lock(&mutex_);
  const auto is_decided = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !status_.ok() || posted_.empty() || LeastMapped(row) >= num_groups;
  };
  if (!is_decided()) {
    const absl::Time start = clock_->Now();
    mutex_.Await(absl::Condition(&is_decided));
    ++stats_.num_waits;
    stats_.waited += clock_->Now() - start;
  }
  if (!status_.ok()) return status_;
  if (mapped_[row] >= num_groups) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cache row ", row, " needs ",
                                          num_groups, " page groups, ",
                                          mapped_[row], " have memory"));
}

absl::Status PageMapper::AwaitAll() {
  absl::MutexLock lock(&mutex_);
  const auto is_done = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !status_.ok() || posted_.empty();
  };
  mutex_.Await(absl::Condition(&is_done));
  return status_;
}

PageMapperStats PageMapper::stats() const {
  absl::MutexLock lock(&mutex_);
  return stats_;
}

absl::Status PageMapper::Apply(const RowMapping& mapping, int32_t num_mapped,
                               PageMapperStats* stats) {
  const int64_t num_pages =
      int64_t{mapping.num_page_groups - num_mapped} * group_pages_;
  const int64_t row = int64_t{mapping.row.value()} * row_groups_;
  if (num_pages > 0) {
    stats->num_mapped_pages += num_pages;
    return memory_->Map((row + num_mapped) * group_pages_, num_pages);
  }
  stats->num_unmapped_pages -= num_pages;
  return memory_->Unmap((row + mapping.num_page_groups) * group_pages_,
                        -num_pages);
}

void PageMapper::Loop() {
  pthread_setname_np(pthread_self(), "quire-mapper");
  const auto has_work = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return is_stopped_ || (!posted_.empty() && status_.ok());
  };
  absl::MutexLock lock(&mutex_);
  while (true) {
    mutex_.Await(absl::Condition(&has_work));
    if (is_stopped_) return;
    const RowMapping mapping = posted_.front();
    const int32_t num_mapped = mapped_[mapping.row.value()];
    PageMapperStats done;
    mutex_.Unlock();
    const absl::Time start = clock_->Now();
    const absl::Status status = Apply(mapping, num_mapped, &done);
    const absl::Duration busy = clock_->Now() - start;
    mutex_.Lock();
    if (status.ok()) {
      posted_.pop_front();
      mapped_[mapping.row.value()] = mapping.num_page_groups;
      stats_.num_mapped_pages += done.num_mapped_pages;
      stats_.num_unmapped_pages += done.num_unmapped_pages;
      stats_.busy += busy;
    } else {
      status_ = status;
    }
  }
}

}  // namespace quire
