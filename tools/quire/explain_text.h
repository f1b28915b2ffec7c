// SPDX-License-Identifier: Apache-2.0
//
// Why a request has waited, as a page of text.
#ifndef TOOLS_QUIRE_EXPLAIN_TEXT_H_
#define TOOLS_QUIRE_EXPLAIN_TEXT_H_

#include <string>

namespace quire {

namespace v1 {
class ExplainResponse;
}  // namespace v1

// A heading, the intervals in order, and each reason's share of the waiting.
std::string ExplainText(const v1::ExplainResponse& explained);

}  // namespace quire

#endif  // TOOLS_QUIRE_EXPLAIN_TEXT_H_
