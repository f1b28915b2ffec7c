// SPDX-License-Identifier: Apache-2.0
//
// Whether two runs of the same requests gave the same tokens.
#ifndef TOOLS_LOADGEN_VERIFY_H_
#define TOOLS_LOADGEN_VERIFY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tools/loadgen/request_record.h"

namespace quire {

struct VerifyResult {
  int64_t num_compared = 0;  // sequences
  int64_t num_differing = 0;
  int64_t num_unrepeated = 0;  // completed first, failed in the repetition
  // One line for each of the first few that differ or failed.
  std::vector<std::string> details;

  bool ok() const { return num_differing == 0 && num_unrepeated == 0; }
};

// Compares every sequence of the completed requests of `first` with those of
// the same idx in `second`, the undisturbed repetition.
VerifyResult CompareRuns(const std::vector<RequestRecord>& first,
                         const std::vector<RequestRecord>& second);

// "Compared streams: 500", "Differing streams: 0" and the details, as lines of
// the console block.
std::string VerifyText(const VerifyResult& result);

}  // namespace quire

#endif  // TOOLS_LOADGEN_VERIFY_H_
