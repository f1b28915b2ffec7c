// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/shm.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "worker/collective/rank_sum.h"
#include "worker/collective/shm_segment.h"

namespace quire {
namespace {

// What a rank can bring to one round. Longer operations take several.
constexpr int64_t kAreaBytes = 1 << 20;
// Looks at a peer's word before sleeping: some 50 us.
constexpr int kSpins = 1000;
// Between looks at whether the peers live.
constexpr absl::Duration kNap = absl::Milliseconds(100);
// Up to this many bytes every rank adds up everything: a second round would
// cost more than the additions that it saves.
constexpr int64_t kDirectBytes = 16 << 10;

// One rank's word: the round that it has reached.
struct alignas(64) Seat {
  std::atomic<uint32_t> round;
  std::atomic<uint32_t> num_sleepers;  // ranks that wait in the kernel
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

int64_t SegmentBytes(int32_t world_size) {
  return world_size * (sizeof(Seat) + 2 * kAreaBytes);
}

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void FutexWait(std::atomic<uint32_t>* word, uint32_t seen,
               absl::Duration timeout) {
  const timespec limit = absl::ToTimespec(timeout);
  syscall(SYS_futex, word, FUTEX_WAIT, seen, &limit, nullptr, 0);
}

void FutexWakeAll(std::atomic<uint32_t>* word) {
  syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

// Every operation is made of rounds. In round n a rank fills its area n % 2,
// says so in its seat, and waits until all others have; then it reads theirs.
// It may fill that area again in round n + 2: a peer that has reached n + 1 has
// read all of round n.
class ShmCollective final : public Collective {
 public:
  ShmCollective(const ShmOptions& options, std::unique_ptr<ShmSegment> segment)
      : options_(options),
        segment_(std::move(segment)),
        seats_(reinterpret_cast<Seat*>(segment_->data())),
        areas_(segment_->data() + options.world_size * sizeof(Seat)),
        sources_(options.world_size) {}

  int32_t rank() const override { return options_.rank; }
  int32_t world_size() const override { return options_.world_size; }
  std::string name() const override { return "shm"; }
  std::vector<std::string> links() const override {
    std::vector<std::string> links(world_size(), "shared memory");
    links[rank()] = "";
    return links;
  }

  absl::Status AllReduceSum(void* data, int64_t num_elements,
                            DType dtype) override {
    const int64_t width = SizeOf(dtype);
    const int64_t most = kAreaBytes / width;
    char* bytes = static_cast<char*>(data);
    for (int64_t first = 0; first < num_elements; first += most) {
      const int64_t n = std::min(most, num_elements - first);
      char* piece = bytes + first * width;
      QUIRE_RETURN_IF_ERROR(world_size() <= 2 || n * width <= kDirectBytes
                                ? SumDirectly(piece, n, dtype)
                                : SumByParts(piece, n, dtype));
    }
    return absl::OkStatus();
  }

  absl::Status AllGather(const void* in, void* out, int64_t bytes) override {
    const char* from = static_cast<const char*>(in);
    char* to = static_cast<char*>(out);
    for (int64_t first = 0; first < bytes; first += kAreaBytes) {
      const int64_t n = std::min(kAreaBytes, bytes - first);
      std::memcpy(NextArea(), from + first, n);
      QUIRE_RETURN_IF_ERROR(Meet());
      for (int32_t peer = 0; peer < world_size(); ++peer) {
        char* part = to + peer * bytes + first;
        if (part != from + first) std::memcpy(part, Area(peer), n);
      }
    }
    return absl::OkStatus();
  }

  absl::Status Barrier() override { return Meet(); }

 private:
  // Where this rank may write before it meets the others.
  char* NextArea() const { return AreaOf(rank(), round_ + 1); }
  // Where a peer's contribution to the round just met is.
  const char* Area(int32_t peer) const { return AreaOf(peer, round_); }
  char* AreaOf(int32_t rank, uint32_t round) const {
    return areas_ + (2 * int64_t{rank} + round % 2) * kAreaBytes;
  }

  absl::Status SumDirectly(char* data, int64_t num_elements, DType dtype) {
    std::memcpy(NextArea(), data, num_elements * SizeOf(dtype));
    QUIRE_RETURN_IF_ERROR(Meet());
    for (int32_t peer = 0; peer < world_size(); ++peer) {
      sources_[peer] = Area(peer);
    }
    SumInRankOrder(sources_, data, num_elements, dtype);
    return absl::OkStatus();
  }

  // Each rank adds up one part and shows the others its sum.
  absl::Status SumByParts(char* data, int64_t num_elements, DType dtype) {
    const int64_t width = SizeOf(dtype);
    std::memcpy(NextArea(), data, num_elements * width);
    QUIRE_RETURN_IF_ERROR(Meet());
    const RankPart mine = PartOf(num_elements, rank(), world_size());
    for (int32_t peer = 0; peer < world_size(); ++peer) {
      sources_[peer] = Area(peer) + mine.begin * width;
    }
    SumInRankOrder(sources_, NextArea(), mine.size(), dtype);
    QUIRE_RETURN_IF_ERROR(Meet());
    for (int32_t peer = 0; peer < world_size(); ++peer) {
      const RankPart part = PartOf(num_elements, peer, world_size());
      std::memcpy(data + part.begin * width, Area(peer), part.size() * width);
    }
    return absl::OkStatus();
  }

  // Reaches the next round and waits until all others have.
  absl::Status Meet() {
    if (!broken_.ok()) return broken_;
    ++round_;
    Seat& own = seats_[rank()];
    // Sequentially consistent, with the sleeper's own two steps: either it
    // sees this round, or this sees the sleeper.
    own.round.store(round_);
    if (own.num_sleepers.load() > 0) FutexWakeAll(&own.round);
    for (int32_t peer = 0; peer < world_size(); ++peer) {
      if (peer == rank() || HasReached(peer)) continue;
      broken_ = Await(peer);
      if (!broken_.ok()) return broken_;
    }
    return absl::OkStatus();
  }

  // Rounds wrap around after 2^32, so compare by difference.
  bool HasReached(int32_t peer) const {
    return static_cast<int32_t>(seats_[peer].round.load() - round_) >= 0;
  }

  absl::Status Await(int32_t peer) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (HasReached(peer)) return absl::OkStatus();
      Pause();
    }
    Seat& seat = seats_[peer];
    seat.num_sleepers.fetch_add(1);
    const absl::Status status = Sleep(peer, &seat);
    seat.num_sleepers.fetch_sub(1);
    return status;
  }

  absl::Status Sleep(int32_t peer, Seat* seat) {
    absl::Duration waited;
    while (true) {
      const uint32_t seen = seat->round.load();
      if (static_cast<int32_t>(seen - round_) >= 0) return absl::OkStatus();
      const absl::Time start = absl::Now();
      FutexWait(&seat->round, seen, kNap);
      waited += absl::Now() - start;
      // It may have come and gone: what it brought is there all the same.
      if (!segment_->IsAlive(peer) && !HasReached(peer)) {
        return absl::UnavailableError(
            absl::StrCat("rank ", rank(), " lost rank ", peer));
      }
      if (waited > options_.operation_timeout) {
        return absl::UnavailableError(
            absl::StrCat("rank ", rank(), " waited ",
                         absl::FormatDuration(options_.operation_timeout),
                         " for rank ", peer));
      }
    }
  }

  const ShmOptions options_;
  const std::unique_ptr<ShmSegment> segment_;
  Seat* const seats_;  // [world_size]
  char* const areas_;  // [world_size, 2, kAreaBytes]
  uint32_t round_ = 0;
  std::vector<const void*> sources_;
  absl::Status broken_;
};

std::string OpenedKey(int32_t rank) {
  return absl::StrCat("shm/opened/", rank);
}

// Rank 0 makes the segment; once all others have it open, nobody needs its
// name any more, and nothing is left behind however the ranks end.
absl::StatusOr<std::unique_ptr<ShmSegment>> Host(const ShmOptions& options,
                                                 KeyBoard* board) {
  QUIRE_ASSIGN_OR_RETURN(
      auto segment,
      ShmSegment::Create(SegmentBytes(options.world_size), options.rank));
  QUIRE_RETURN_IF_ERROR(board->Put("shm/name", segment->name()));
  std::vector<std::string> keys;
  for (int32_t peer = 1; peer < options.world_size; ++peer) {
    keys.push_back(OpenedKey(peer));
  }
  QUIRE_RETURN_IF_ERROR(board->Get(keys, options.connect_timeout).status());
  segment->Unlink();
  QUIRE_RETURN_IF_ERROR(board->Put("shm/complete", "yes"));
  return segment;
}

absl::StatusOr<std::unique_ptr<ShmSegment>> JoinHost(const ShmOptions& options,
                                                     KeyBoard* board) {
  QUIRE_ASSIGN_OR_RETURN(const auto names,
                         board->Get({"shm/name"}, options.connect_timeout));
  QUIRE_ASSIGN_OR_RETURN(
      auto segment, ShmSegment::Open(names[0], SegmentBytes(options.world_size),
                                     options.rank));
  QUIRE_RETURN_IF_ERROR(board->Put(OpenedKey(options.rank), "yes"));
  QUIRE_RETURN_IF_ERROR(
      board->Get({"shm/complete"}, options.connect_timeout).status());
  return segment;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Collective>> ConnectShm(
    const ShmOptions& options, KeyBoard* board) {
  auto segment =
      options.rank == 0 ? Host(options, board) : JoinHost(options, board);
  if (absl::IsDeadlineExceeded(segment.status())) {
    return absl::UnavailableError(
        absl::StrCat("rank ", options.rank, " of ", options.world_size,
                     ": not all ranks joined within ",
                     absl::FormatDuration(options.connect_timeout)));
  }
  QUIRE_RETURN_IF_ERROR(segment.status());
  return std::make_unique<ShmCollective>(options, *std::move(segment));
}

}  // namespace quire
