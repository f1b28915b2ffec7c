// SPDX-License-Identifier: Apache-2.0
//
// Where the ranks of one process find each other.
#ifndef TOOLS_EMBEDDED_KEY_TABLE_H_
#define TOOLS_EMBEDDED_KEY_TABLE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/collective/key_board.h"

namespace quire {

// Thread-safe.
class KeyTable final : public KeyBoard {
 public:
  // AlreadyExists if the key has another value.
  absl::Status Put(const std::string& key, const std::string& value) override;
  absl::StatusOr<std::vector<std::string>> Get(
      absl::Span<const std::string> keys, absl::Duration timeout) override;

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::string> values_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // TOOLS_EMBEDDED_KEY_TABLE_H_
