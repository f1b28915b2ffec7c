// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_store.h"

#include <algorithm>
#include <utility>

#include "coordinator/kv/attention_window.h"
#include "glog/logging.h"

namespace quire {
namespace {

HashKey HashKeyOf(const KvOptions& options) {
  return options.prefix_hash_key == HashKey{} ? ProcessHashKey()
                                              : options.prefix_hash_key;
}

// The last token is always computed, since it yields the next one.
int32_t MaxComputed(const KvAdmission& admission) {
  return static_cast<int32_t>(admission.tokens.size()) - 1;
}

// Looks a sequence's full blocks up, each once at most.
class PrefixWalk {
 public:
  PrefixWalk(const PrefixIndex& index, const KvAdmission& admission,
             int32_t block_size)
      : index_(index), tokens_(admission.tokens), block_size_(block_size) {
    cursor_.scope = admission.scope;
    is_known_ = admission.scope != 0;
  }

  // Where block `idx` is. REQUIRES: the sequence fills it, and `idx` grows.
  BlockPlace Find(int32_t idx) {
    while (is_known_ && cursor_.num_blocks <= idx) {
      const PrefixNodeId node =
          index_.Find(cursor_.scope, cursor_.node,
                      tokens_.subspan(int64_t{cursor_.num_blocks} * block_size_,
                                      block_size_));
      is_known_ = node != PrefixIndex::kNoNode;
      if (is_known_) cursor_ = {cursor_.scope, node, cursor_.num_blocks + 1};
    }
    return is_known_ ? index_.place(cursor_.node) : BlockPlace();
  }

  // Whether every block up to the last one asked for has been computed once.
  bool is_known() const { return is_known_; }
  // The last node that was found.
  const PrefixCursor& cursor() const { return cursor_; }

 private:
  const PrefixIndex& index_;
  const absl::Span<const TokenId> tokens_;
  const int32_t block_size_;
  PrefixCursor cursor_;
  bool is_known_ = false;  // the sequence up to the cursor
};

}  // namespace

BlockStore::BlockStore(const KvOptions& options)
    : options_(options),
      pool_(options.num_blocks),
      host_pool_(options.num_host_blocks),
      index_(options.block_size, options.num_blocks + options.num_host_blocks,
             HashKeyOf(options), options.prefix_summary),
      device_(options.num_blocks),
      host_(options.num_host_blocks) {}

void BlockStore::SetPlace(const Contents& contents, BlockPlace place) {
  if (contents.node != kNoNode) index_.SetPlace(contents.node, place);
  if (contents.parked != kNotParked) parked_.SetPlace(contents.parked, place);
}

BlockId BlockStore::Take(StepPlan* plan) {
  if (pool_.num_free() == 0) Evict(plan);
  return pool_.AllocateOne();
}

void BlockStore::Hold(BlockId block) {
  if (pool_.num_refs(block) > 0) {
    pool_.Ref(block);
  } else {
    pool_.Revive(block);
  }
}

void BlockStore::Drop(BlockId block) {
  const Contents& contents = At(block);
  if (contents.is_wanted() && pool_.num_refs(block) == 1) {
    pool_.Cache(block, contents.rank());
  } else {
    pool_.Unref(block);
  }
}

void BlockStore::Evict(StepPlan* plan) {
  const BlockId block = pool_.NextVictim();
  const Contents contents = std::exchange(At(block), {});
  const std::optional<HostBlockId> host = FindHostBlock(contents, *plan);
  if (host.has_value()) {
    host_pool_.SwapOut(block, *host, plan);
    host_pool_.List(*host, contents.rank());
    At(*host) = contents;
    SetPlace(contents, BlockPlace(*host));
  } else {
    SetPlace(contents, BlockPlace());
  }
  pool_.Free(block);
}

std::optional<HostBlockId> BlockStore::FindHostBlock(const Contents& contents,
                                                     const StepPlan& plan) {
  const bool may_swap =
      contents.parked != kNotParked && parked_.may_swap(contents.parked);
  const bool may_demote = contents.node != kNoNode && options_.demote_prefixes;
  if (!may_swap && !may_demote) return std::nullopt;
  std::optional<HostBlockId> host = host_pool_.Allocate(plan);
  if (host.has_value()) return host;
  // What was listed first is the tail of the sequence preempted first, which
  // comes back last: it is worth less than what would be lost instead.
  host = host_pool_.NextVictim(may_swap ? CacheRank::kSurely
                                        : CacheRank::kPerhaps);
  if (host.has_value()) {
    host_pool_.Claim(*host);
    LoseContents(*host);
  }
  return host;
}

void BlockStore::LoseContents(HostBlockId host) {
  SetPlace(std::exchange(At(host), {}), BlockPlace());
}

BlockId BlockStore::SwapIn(HostBlockId host, StepPlan* plan) {
  const BlockId block = Take(plan);
  host_pool_.SwapIn(host, block, plan);
  Contents contents = std::exchange(At(host), {});
  contents.generation = pool_.generation(block);
  At(block) = contents;
  SetPlace(contents, BlockPlace(block));
  host_pool_.Free(host);
  return block;
}

bool BlockStore::IsWanted(BlockId block, int32_t offset) const {
  const Contents& contents = At(block);
  return contents.node != kNoNode ||
         (contents.parked != kNotParked &&
          parked_.num_rows(contents.parked) > offset);
}

void BlockStore::PrepareWrite(BlockId block, int32_t offset) {
  DCHECK_EQ(pool_.num_refs(block), 1);
  Contents& contents = At(block);
  if (contents.node != kNoNode) {
    index_.SetPlace(std::exchange(contents.node, kNoNode), BlockPlace());
  }
  if (contents.parked != kNotParked &&
      parked_.num_rows(contents.parked) > offset) {
    parked_.SetPlace(std::exchange(contents.parked, kNotParked), BlockPlace());
  }
}

const ParkedSequence* BlockStore::FindParked(const KvAdmission& admission,
                                             int32_t max_computed) const {
  const ParkedSequence* parked = parked_.Find(admission.sequence_id);
  if (parked == nullptr || parked->first_idx == 0) return parked;
  // Behind a window there is no going back to an earlier token.
  const bool is_whole = std::none_of(
      parked->blocks.begin(), parked->blocks.end(),
      [this](ParkedBlockId id) { return parked_.place(id).is_nowhere(); });
  return is_whole && parked->num_computed <= max_computed ? parked : nullptr;
}

template <typename Visit>
ReusableBlocks BlockStore::Walk(const KvAdmission& admission,
                                int32_t first_seen, const Visit& visit) const {
  const int32_t max_computed = MaxComputed(admission);
  ReusableBlocks found;
  found.cursor.scope = admission.scope;
  if (max_computed <= 0) return found;
  const ParkedSequence* parked = FindParked(admission, max_computed);
  const int32_t num_parked =
      parked == nullptr ? 0 : std::min(parked->num_computed, max_computed);
  int32_t& idx = found.num_blocks;
  if (parked != nullptr) first_seen = std::max(first_seen, parked->first_idx);
  for (; idx < first_seen; ++idx) visit(BlockPlace());
  found.num_dropped = idx;
  const int32_t block_size = options_.block_size;
  PrefixWalk prefixes(index_, admission, block_size);
  const int32_t max_prefix =
      std::min(max_computed, admission.num_common_tokens);
  for (;; ++idx) {
    const int32_t end = (idx + 1) * block_size;
    BlockPlace place;
    if (end <= num_parked) place = NotedPlace(*parked, idx);
    if (place.is_nowhere() && end <= max_prefix) place = prefixes.Find(idx);
    if (place.is_nowhere()) break;
    visit(place);
    if (prefixes.cursor().num_blocks == idx + 1) {
      found.cursor = prefixes.cursor();
    }
  }
  found.num_computed = idx * block_size;
  // A partly filled block is the last.
  if (num_parked > found.num_computed &&
      num_parked < found.num_computed + block_size) {
    const BlockPlace place = NotedPlace(*parked, idx);
    if (!place.is_nowhere()) {
      visit(place);
      ++idx;
      found.num_computed = num_parked;
    }
  }
  return found;
}

int32_t BlockStore::FirstSeenBlock(const KvAdmission& admission) const {
  const int32_t window = std::max(kLeastWindow, admission.window);
  const int32_t max_computed = MaxComputed(admission);
  if (admission.window == 0 || max_computed <= 0) return 0;
  const int32_t block_size = options_.block_size;
  if (FindParked(admission, max_computed) != nullptr) {
    const ReusableBlocks found = Walk(admission, 0, [](BlockPlace) {});
    return FirstSeenToken(found.num_computed, window) / block_size;
  }
  // The longest prefix whose last blocks are there, whatever became of those
  // that its window has left behind.
  PrefixWalk prefixes(index_, admission, block_size);
  int32_t first_seen = 0;
  int32_t first_there = 0;  // of those in a row
  for (int32_t idx = 0; (idx + 1) * block_size <= max_computed; ++idx) {
    const BlockPlace place = prefixes.Find(idx);
    if (!prefixes.is_known()) break;
    if (place.is_nowhere()) {
      first_there = idx + 1;
      continue;
    }
    const int32_t first =
        FirstSeenToken((idx + 1) * block_size, window) / block_size;
    if (first >= first_there) first_seen = first;
  }
  return first_seen;
}

ReusableBlocks BlockStore::FindReusable(const KvAdmission& admission,
                                        std::vector<BlockPlace>* places) const {
  return Walk(admission, FirstSeenBlock(admission),
              [places](BlockPlace place) { places->push_back(place); });
}

KvReuse BlockStore::CountReusable(const KvAdmission& admission) const {
  KvReuse reuse;
  bool last_is_held = false;
  const auto count = [&](BlockPlace place) {
    last_is_held = place.is_device() && pool_.num_refs(place.device()) > 0;
    reuse.num_held_blocks += last_is_held || place.is_nowhere();
  };
  const ReusableBlocks found =
      Walk(admission, FirstSeenBlock(admission), count);
  reuse.num_computed_tokens = found.num_computed;
  // A held block that is partly filled is replaced by a copy.
  if (found.num_computed % options_.block_size != 0) {
    reuse.num_held_blocks -= last_is_held;
  }
  return reuse;
}

void BlockStore::Reuse(absl::Span<const BlockPlace> places, StepPlan* plan,
                       std::vector<BlockId>* blocks) {
  // What is there already must not be evicted for the rest.
  for (BlockPlace place : places) {
    if (place.is_device()) Hold(place.device());
    if (place.is_host()) host_pool_.Claim(place.host());
  }
  const size_t first = blocks->size();
  for (BlockPlace place : places) {
    if (place.is_nowhere()) continue;
    blocks->push_back(place.is_device() ? place.device()
                                        : SwapIn(place.host(), plan));
  }
  const size_t num_dropped = places.size() - (blocks->size() - first);
  if (num_dropped == 0) return;
  const BlockId stand_in = blocks->at(first);
  blocks->insert(blocks->begin() + first, num_dropped, stand_in);
}

void BlockStore::Publish(absl::Span<const TokenId> tokens, int32_t num_full,
                         const BlockTable& table, PrefixCursor* cursor) {
  const int32_t block_size = options_.block_size;
  while (cursor->num_blocks < num_full) {
    const int32_t idx = cursor->num_blocks++;
    const PrefixNodeId node = index_.FindOrInsert(
        cursor->scope, cursor->node,
        tokens.subspan(int64_t{idx} * block_size, block_size));
    index_.Unpin(std::exchange(cursor->node, node));
    if (idx >= table.num_dropped()) Register(node, table.block(idx));
  }
}

void BlockStore::Register(PrefixNodeId node, BlockId block) {
  Contents& contents = At(block);
  if (contents.node != kNoNode) return;
  const BlockPlace place = index_.place(node);
  if (place.is_device()) {
    // The first one stays; it was as good as asked for.
    const BlockId first = place.device();
    if (pool_.is_cached(first)) pool_.Touch(first, At(first).rank());
    return;
  }
  if (place.is_host()) {
    const HostBlockId host = place.host();
    At(host).node = kNoNode;
    if (At(host).parked == kNotParked) {
      host_pool_.Claim(host);
      host_pool_.Free(host);
    }
  }
  contents.node = node;
  contents.generation = pool_.generation(block);
  index_.SetPlace(node, BlockPlace(block));
}

PrefixCursor BlockStore::ForkCursor(const PrefixCursor& cursor,
                                    int32_t num_blocks) {
  PrefixCursor fork = cursor;
  while (fork.num_blocks > num_blocks) {
    fork.node = index_.parent(fork.node);
    --fork.num_blocks;
  }
  Pin(fork);
  return fork;
}

void BlockStore::Park(SequenceId sequence, int32_t num_computed,
                      const BlockTable& table, bool may_swap) {
  const int32_t block_size = options_.block_size;
  ParkedSequence parked = {.num_computed = num_computed,
                           .first_idx = table.num_dropped(),
                           .blocks = {}};
  const int32_t num_blocks = BlocksFor(num_computed);
  CHECK_LE(num_blocks, table.num_blocks());
  if (num_blocks <= parked.first_idx) return;  // nothing is left to note
  for (int32_t idx = parked.first_idx; idx < num_blocks; ++idx) {
    const BlockId block = table.block(idx);
    const int32_t num_rows =
        std::min(block_size, num_computed - idx * block_size);
    Contents& contents = At(block);
    if (contents.parked == kNotParked) {
      contents.parked = parked_.AddBlock(BlockPlace(block), num_rows, may_swap);
      contents.generation = pool_.generation(block);
    } else {
      parked_.AddNote(contents.parked, num_rows, may_swap);
    }
    parked.blocks.push_back(contents.parked);
  }
  parked_.Insert(sequence, std::move(parked));
}

void BlockStore::DropNote(ParkedBlockId block) {
  const BlockPlace place = parked_.place(block);
  if (!parked_.DropNote(block)) return;
  if (place.is_device()) {
    Contents& contents = At(place.device());
    contents.parked = kNotParked;
    if (!pool_.is_cached(place.device())) return;
    if (contents.node == kNoNode) {
      pool_.Free(place.device());
    } else {
      pool_.Touch(place.device(), CacheRank::kPerhaps);
    }
  } else if (place.is_host()) {
    Contents& contents = At(place.host());
    contents.parked = kNotParked;
    host_pool_.Claim(place.host());
    if (contents.node == kNoNode) {
      host_pool_.Free(place.host());
    } else {
      host_pool_.List(place.host(), CacheRank::kPerhaps);
    }
  }
}

void BlockStore::Forget(SequenceId sequence) {
  if (parked_.Find(sequence) == nullptr) return;
  const ParkedSequence parked = parked_.Take(sequence);
  // The tail goes first, so that its prefixes are evicted first.
  for (auto it = parked.blocks.rbegin(); it != parked.blocks.rend(); ++it) {
    DropNote(*it);
  }
}

void BlockStore::ForgetAll() {
  std::vector<SequenceId> sequences;
  for (const auto& [sequence, parked] : parked_.all()) {
    sequences.push_back(sequence);
  }
  // In an order that does not depend on the hash of the process.
  std::sort(sequences.begin(), sequences.end());
  for (SequenceId sequence : sequences) Forget(sequence);
  for (Contents& contents : device_) {
    SetPlace(std::exchange(contents, {}), BlockPlace());
  }
  while (pool_.num_cached() > 0) pool_.Free(pool_.NextVictim());
  while (const auto host = host_pool_.NextVictim(CacheRank::kSurely)) {
    host_pool_.Claim(*host);
    LoseContents(*host);
    host_pool_.Free(*host);
  }
}

}  // namespace quire
