// SPDX-License-Identifier: Apache-2.0
//
// What the first group on a machine got of a memory that all groups there
// share. Replicas are alike, so it is the share of each; and it cannot be
// measured again once the pools of others are written to, which a process's
// memory is charged for only then.
#ifndef COORDINATOR_CLUSTER_KNOWN_POOLS_H_
#define COORDINATOR_CLUSTER_KNOWN_POOLS_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace quire {

// Thread-safe. Groups are known by their ranks' addresses, "host:port", and
// share a memory if their hosts are the same.
class KnownPools {
 public:
  // Blocks of the first group on these hosts; 0: there was none.
  int32_t Find(const std::vector<std::string>& addresses) const;
  // A group got so many. Nothing if it is not the first.
  void Note(const std::vector<std::string>& addresses, int32_t num_blocks);

 private:
  mutable absl::Mutex mutex_;
  std::map<std::set<std::string>, int32_t> num_blocks_
      ABSL_GUARDED_BY(mutex_);  // by hosts
};

}  // namespace quire

#endif  // COORDINATOR_CLUSTER_KNOWN_POOLS_H_
