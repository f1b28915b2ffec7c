// SPDX-License-Identifier: Apache-2.0
//
// Where the ranks of one group epoch leave each other notes before they are
// connected. The real one is the coordinator's rendezvous board.
#ifndef WORKER_COLLECTIVE_KEY_BOARD_H_
#define WORKER_COLLECTIVE_KEY_BOARD_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace quire {

// Thread-safe. A key is put once and never changes.
class KeyBoard {
 public:
  virtual ~KeyBoard() = default;

  virtual absl::Status Put(const std::string& key,
                           const std::string& value) = 0;

  // The values, in the order of `keys`, once all are there. DeadlineExceeded
  // after `timeout`.
  virtual absl::StatusOr<std::vector<std::string>> Get(
      absl::Span<const std::string> keys, absl::Duration timeout) = 0;
};

}  // namespace quire

#endif  // WORKER_COLLECTIVE_KEY_BOARD_H_
