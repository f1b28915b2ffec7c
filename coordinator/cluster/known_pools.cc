// SPDX-License-Identifier: Apache-2.0
#include "coordinator/cluster/known_pools.h"

namespace quire {
namespace {

std::set<std::string> HostsOf(const std::vector<std::string>& addresses) {
  std::set<std::string> hosts;
  for (const std::string& address : addresses) {
    hosts.insert(address.substr(0, address.rfind(':')));
  }
  return hosts;
}

}  // namespace

int32_t KnownPools::Find(const std::vector<std::string>& addresses) const {
  absl::MutexLock lock(&mutex_);
  const auto it = num_blocks_.find(HostsOf(addresses));
  return it == num_blocks_.end() ? 0 : it->second;
}

void KnownPools::Note(const std::vector<std::string>& addresses,
                      int32_t num_blocks) {
  absl::MutexLock lock(&mutex_);
  num_blocks_.emplace(HostsOf(addresses), num_blocks);
}

}  // namespace quire
