// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/listening_line.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace quire {
namespace {

constexpr char kListening[] = "QUIRE_LISTENING";
constexpr char kReady[] = "QUIRE_READY";

// A server bound to every interface is reached at this machine's own.
std::string Reachable(absl::string_view address) {
  for (const absl::string_view any : {"0.0.0.0:", "[::]:", "*:"}) {
    if (absl::ConsumePrefix(&address, any)) {
      return absl::StrCat("127.0.0.1:", address);
    }
  }
  return std::string(address);
}

}  // namespace

bool IsListeningLine(absl::string_view line) {
  return absl::StartsWith(line, kListening);
}

bool IsReadyLine(absl::string_view line) {
  return absl::StartsWith(line, kReady);
}

absl::StatusOr<Listening> ParseListeningLine(absl::string_view line) {
  Listening listening;
  for (absl::string_view word : absl::StrSplit(line, ' ')) {
    if (absl::ConsumePrefix(&word, "public=")) {
      listening.public_address = Reachable(word);
    } else if (absl::ConsumePrefix(&word, "control=")) {
      listening.control_address = Reachable(word);
    } else if (absl::ConsumePrefix(&word, "metrics=")) {
      listening.metrics_address = Reachable(word);
    }
  }
  if (listening.public_address.empty() || listening.control_address.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the coordinator said where it listens without an address: ", line));
  }
  return listening;
}

std::optional<KvSize> ParseKvLine(absl::string_view line) {
  if (!absl::ConsumePrefix(&line, "QUIRE_KV ")) return std::nullopt;
  KvSize size;
  for (absl::string_view word : absl::StrSplit(line, ' ')) {
    if (absl::ConsumePrefix(&word, "blocks=")) {
      if (!absl::SimpleAtoi(word, &size.num_blocks)) return std::nullopt;
    } else if (absl::ConsumePrefix(&word, "block_size=")) {
      if (!absl::SimpleAtoi(word, &size.block_size)) return std::nullopt;
    }
  }
  if (size.num_blocks == 0 || size.block_size == 0) return std::nullopt;
  return size;
}

std::optional<Dismissed> ParseDismissedLine(absl::string_view line) {
  if (!absl::ConsumePrefix(&line, "QUIRE_DISMISSED ")) return std::nullopt;
  Dismissed dismissed;
  int num_found = 0;
  for (absl::string_view word : absl::StrSplit(line, ' ')) {
    if (absl::ConsumePrefix(&word, "group=")) {
      num_found += absl::SimpleAtoi(word, &dismissed.group) ? 1 : 0;
    } else if (absl::ConsumePrefix(&word, "rank=")) {
      num_found += absl::SimpleAtoi(word, &dismissed.rank) ? 1 : 0;
    } else if (absl::ConsumePrefix(&word, "pid=")) {
      num_found += absl::SimpleAtoi(word, &dismissed.pid) ? 1 : 0;
    }
  }
  if (num_found != 3) return std::nullopt;
  return dismissed;
}

std::optional<std::string> ParseWarningLine(absl::string_view line) {
  if (!absl::ConsumePrefix(&line, "QUIRE_WARNING ")) return std::nullopt;
  return std::string(line);
}

}  // namespace quire
