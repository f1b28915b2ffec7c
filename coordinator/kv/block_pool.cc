// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_pool.h"

#include "absl/strings/str_cat.h"

namespace quire {

BlockPool::BlockPool(int32_t num_blocks)
    : perhaps_(num_blocks), surely_(num_blocks) {
  CHECK_GT(num_blocks, 0);
  entries_.resize(num_blocks);
  free_.reserve(num_blocks);
  // Block 0 is on top of the stack.
  for (int32_t block = num_blocks - 1; block >= 0; --block) {
    free_.push_back(BlockId(block));
  }
  num_free_ = num_blocks;
}

absl::Status BlockPool::Allocate(int32_t n, std::vector<BlockId>* blocks) {
  CHECK_GE(n, 0);
  if (n > num_free_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "want ", n, " KV blocks, have ", num_free_, " free of ", num_blocks()));
  }
  for (int32_t i = 0; i < n; ++i) blocks->push_back(AllocateOne());
  return absl::OkStatus();
}

void BlockPool::Cache(BlockId block, CacheRank rank) {
  Entry& entry = At(block);
  CHECK_EQ(entry.num_refs, 1) << "caching of block " << block;
  entry.num_refs = 0;
  List(rank).PushBack(block);
}

void BlockPool::Revive(BlockId block) {
  Uncache(block);
  At(block).num_refs = 1;
}

void BlockPool::Free(BlockId block) {
  Uncache(block);
  free_[num_free_++] = block;
}

void BlockPool::Touch(BlockId block, CacheRank rank) {
  Uncache(block);
  List(rank).PushBack(block);
}

BlockId BlockPool::NextVictim() const {
  CHECK_GT(num_cached(), 0) << "no cached KV block";
  return perhaps_.size() > 0 ? perhaps_.front() : surely_.front();
}

CacheRank BlockPool::rank(BlockId block) const {
  CHECK(is_cached(block)) << "rank of block " << block;
  return perhaps_.contains(block) ? CacheRank::kPerhaps : CacheRank::kSurely;
}

void BlockPool::Uncache(BlockId block) {
  CHECK_EQ(At(block).num_refs, 0) << "block " << block << " is held";
  CHECK(is_cached(block)) << "block " << block << " is free";
  List(rank(block)).Remove(block);
}

absl::Status BlockPool::CheckInvariants() const {
  std::vector<bool> is_free(entries_.size());
  for (int32_t i = 0; i < num_free_; ++i) {
    const BlockId block = free_[i];
    if (is_free[block.value()]) {
      return absl::InternalError(absl::StrCat("KV block ", block.value(),
                                              " is twice in the free stack"));
    }
    is_free[block.value()] = true;
  }
  for (int32_t i = 0; i < num_blocks(); ++i) {
    const BlockId block(i);
    const int32_t num_refs = entries_[i].num_refs;
    const int32_t num_states = (num_refs > 0) + is_free[i] +
                               perhaps_.contains(block) +
                               surely_.contains(block);
    if (num_refs < 0 || num_states != 1) {
      return absl::InternalError(absl::StrCat("KV block ", i, " with ",
                                              num_refs, " references is in ",
                                              num_states, " states"));
    }
  }
  return absl::OkStatus();
}

}  // namespace quire
