// SPDX-License-Identifier: Apache-2.0
//
// A cluster's state as a page of text.
#ifndef TOOLS_QUIRE_STATUS_TEXT_H_
#define TOOLS_QUIRE_STATUS_TEXT_H_

#include <string>

namespace quire {

namespace v1 {
class StatusResponse;
}  // namespace v1

// Headings, then a table of groups with their blocks and one of ranks.
std::string StatusText(const v1::StatusResponse& status);

}  // namespace quire

#endif  // TOOLS_QUIRE_STATUS_TEXT_H_
