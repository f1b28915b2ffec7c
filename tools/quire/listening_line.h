// SPDX-License-Identifier: Apache-2.0
//
// The lines by which a coordinator tells its launcher where it listens, what
// is amiss, how much KV memory there is, that it is ready, and who is to end:
//
//   QUIRE_LISTENING public=host:port control=host:port metrics=host:port
//   QUIRE_WARNING text
//   QUIRE_KV blocks=N block_size=N
//   QUIRE_READY
//   QUIRE_DISMISSED group=N rank=N pid=N
#ifndef TOOLS_QUIRE_LISTENING_LINE_H_
#define TOOLS_QUIRE_LISTENING_LINE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace quire {

struct Listening {
  std::string public_address;   // "host:port"; a wildcard host is made local
  std::string control_address;  // likewise
  std::string metrics_address;  // likewise; empty if there is none
};

struct KvSize {
  uint32_t num_blocks = 0;
  uint32_t block_size = 0;  // tokens
};

struct Dismissed {
  uint32_t group = 0;
  uint32_t rank = 0;
  int64_t pid = 0;
};

bool IsListeningLine(absl::string_view line);
bool IsReadyLine(absl::string_view line);

// InvalidArgument if `line` lacks an address. REQUIRES: IsListeningLine(line).
absl::StatusOr<Listening> ParseListeningLine(absl::string_view line);

// nullopt if `line` is not a whole QUIRE_KV line.
std::optional<KvSize> ParseKvLine(absl::string_view line);

// nullopt if `line` is not a whole QUIRE_DISMISSED line.
std::optional<Dismissed> ParseDismissedLine(absl::string_view line);

// The text of a QUIRE_WARNING line; nullopt if `line` is none.
std::optional<std::string> ParseWarningLine(absl::string_view line);

}  // namespace quire

#endif  // TOOLS_QUIRE_LISTENING_LINE_H_
