// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/group_end.h"

#include "glog/logging.h"

namespace quire {

void GroupEnd::Announce(const absl::Status& cause) {
  CHECK(!cause.ok());
  absl::MutexLock lock(&mutex_);
  if (cause_.ok()) cause_ = cause;
}

absl::Status GroupEnd::status() const {
  absl::MutexLock lock(&mutex_);
  return cause_;
}

absl::Status GroupEnd::Await(absl::Duration timeout) const {
  const auto is_over = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return !cause_.ok();
  };
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&is_over), timeout);
  return cause_;
}

}  // namespace quire
