// SPDX-License-Identifier: Apache-2.0
#ifndef COORDINATOR_DISPATCH_LINK_REPORT_H_
#define COORDINATOR_DISPATCH_LINK_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace quire {

// How a rank reaches its peers: proto/worker.proto's ProfileResponse.
struct LinkReport {
  struct AllReduceTime {
    uint64_t bytes = 0;
    double us = 0;
  };
  std::string collective;
  std::vector<std::string> links;
  std::vector<AllReduceTime> all_reduce;
};

}  // namespace quire

#endif  // COORDINATOR_DISPATCH_LINK_REPORT_H_
