// SPDX-License-Identifier: Apache-2.0
//
// A key-value board per group epoch, on which ranks find each other before they
// can talk. Who asks for keys that are not there yet is called back.
#ifndef COORDINATOR_CLUSTER_RENDEZVOUS_BOARD_H_
#define COORDINATOR_CLUSTER_RENDEZVOUS_BOARD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/ids.h"

namespace quire {

// Thread-safe. Callbacks run without its lock, on the thread of the call that
// completed or ended the wait.
class RendezvousBoard {
 public:
  using Values = std::vector<std::string>;
  using Callback = std::function<void(absl::StatusOr<Values>)>;

  // A board that takes at most this many bytes, keys included, per epoch.
  static constexpr size_t kMaxBytes = 16 << 20;

  // Overwrites. ResourceExhausted when the board is full.
  absl::Status Put(int32_t group, Epoch group_epoch, const std::string& key,
                   const std::string& value);

  // Calls back once: with the values, in the order of `keys`, as soon as all
  // are there (perhaps before this returns), or with FailedPrecondition when
  // the epoch ends. Returns a name for Cancel.
  uint64_t Get(int32_t group, Epoch group_epoch, std::vector<std::string> keys,
               Callback callback);

  // Ends a wait without a call back. False if the call back has begun.
  bool Cancel(uint64_t wait_id);

  // Forgets the epoch's keys and fails those who wait for more.
  void EndEpoch(int32_t group, Epoch group_epoch);

 private:
  using BoardKey = std::pair<int32_t, Epoch>;
  struct Board {
    std::map<std::string, std::string> values;
    size_t num_bytes = 0;
  };
  struct Wait {
    BoardKey board;
    std::vector<std::string> keys;
    Callback callback;
  };

  // The values of `keys`, or NotFound.
  absl::StatusOr<Values> Find(const BoardKey& board,
                              const std::vector<std::string>& keys) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  uint64_t next_wait_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<BoardKey, Board> boards_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Wait> waits_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // COORDINATOR_CLUSTER_RENDEZVOUS_BOARD_H_
