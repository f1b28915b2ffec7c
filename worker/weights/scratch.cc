// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/scratch.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "glog/logging.h"

namespace quire {
namespace {

struct Block {
  void* data;
  int64_t bytes;
};

Block AllocateBlock(int64_t bytes) {
  constexpr int64_t kSmallAlignment = 64;
  constexpr int64_t kHugePageBytes = 2 << 20;
  const bool large = bytes >= 2 * kHugePageBytes;
  const int64_t alignment = large ? kHugePageBytes : kSmallAlignment;
  const int64_t rounded = (bytes / alignment + 1) * alignment;
  void* data = std::aligned_alloc(static_cast<size_t>(alignment),
                                  static_cast<size_t>(rounded));
  PCHECK(data != nullptr) << "cannot allocate " << bytes << " bytes";
  // A refusal does no harm.
  if (large) madvise(data, static_cast<size_t>(rounded), MADV_HUGEPAGE);
  return {data, rounded};
}

}  // namespace

// Free blocks, by ascending size.
class ScratchPool::Blocks {
 public:
  ~Blocks() {
    for (const Block& block : free_) std::free(block.data);
  }

  // The smallest that is large enough, or a new one.
  Block Take(int64_t bytes) {
    const auto it = std::find_if(
        free_.begin(), free_.end(),
        [bytes](const Block& block) { return block.bytes >= bytes; });
    if (it == free_.end()) return AllocateBlock(bytes);
    const Block block = *it;
    free_.erase(it);
    return block;
  }

  void Give(Block block) {
    const auto it = std::find_if(
        free_.begin(), free_.end(),
        [&](const Block& other) { return other.bytes >= block.bytes; });
    free_.insert(it, block);
    if (free_.size() <= kMaxFree) return;
    std::free(free_.front().data);
    free_.erase(free_.begin());
  }

 private:
  // A model stacks three slices at most.
  static constexpr size_t kMaxFree = 3;
  std::vector<Block> free_;
};

ScratchPool::ScratchPool() : blocks_(std::make_shared<Blocks>()) {}
ScratchPool::~ScratchPool() = default;

std::shared_ptr<void> ScratchPool::Lend(int64_t bytes) {
  const Block block = blocks_->Take(bytes);
  return std::shared_ptr<void>(
      block.data, [blocks = blocks_, block](void*) { blocks->Give(block); });
}

}  // namespace quire
