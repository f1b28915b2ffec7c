// SPDX-License-Identifier: Apache-2.0
//
// Text that people hand to a command, before it goes to a server.
#ifndef TOOLS_QUIRE_TEXT_CHECK_H_
#define TOOLS_QUIRE_TEXT_CHECK_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace quire {

// InvalidArgument, with the offset of the first bad byte, if `text` is not
// UTF-8: no message to a server can hold it. `what` names it, such as "--stop".
absl::Status CheckText(absl::string_view what, absl::string_view text);

}  // namespace quire

#endif  // TOOLS_QUIRE_TEXT_CHECK_H_
