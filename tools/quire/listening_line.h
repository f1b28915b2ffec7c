// SPDX-License-Identifier: Apache-2.0
//
// The lines by which a coordinator tells its launcher where it listens and
// that it is ready:
//
//   QUIRE_LISTENING public=host:port control=host:port metrics=host:port
//   QUIRE_READY
#ifndef TOOLS_QUIRE_LISTENING_LINE_H_
#define TOOLS_QUIRE_LISTENING_LINE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace quire {

struct Listening {
  std::string public_address;   // "host:port"; a wildcard host is made local
  std::string control_address;  // likewise
  std::string metrics_address;  // likewise; empty if there is none
};

bool IsListeningLine(absl::string_view line);
bool IsReadyLine(absl::string_view line);

// InvalidArgument if `line` lacks an address. REQUIRES: IsListeningLine(line).
absl::StatusOr<Listening> ParseListeningLine(absl::string_view line);

}  // namespace quire

#endif  // TOOLS_QUIRE_LISTENING_LINE_H_
