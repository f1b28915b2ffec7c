// SPDX-License-Identifier: Apache-2.0
//
// What an error tells a program besides its code and its sentence: a stable
// reason, the fields at fault, when to try again. Carried as payloads of an
// absl::Status, in the form that google.rpc gives them on the wire.
#ifndef COMMON_WIRE_ERROR_DETAILS_H_
#define COMMON_WIRE_ERROR_DETAILS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace quire {

// ErrorInfo.domain of every Quire error.
inline constexpr char kErrorDomain[] = "quire";

struct FieldViolation {
  std::string field;        // as the proto spells it: "sampling.top_p"
  std::string description;  // one sentence: value, limit, remedy

  friend bool operator==(const FieldViolation&,
                         const FieldViolation&) = default;
};

struct ErrorDetails {
  std::string reason;                           // UPPER_SNAKE_CASE; "": none
  std::map<std::string, std::string> metadata;  // the message's dynamic parts
  std::vector<FieldViolation> field_violations;
  std::optional<absl::Duration> retry_delay;

  friend bool operator==(const ErrorDetails&, const ErrorDetails&) = default;
};

// Attaches `details` to an error, replacing those it has. No effect on OK.
void SetErrorDetails(const ErrorDetails& details, absl::Status* status);

// The details of a status; empty ones where it has none or they are malformed.
ErrorDetails GetErrorDetails(const absl::Status& status);

}  // namespace quire

#endif  // COMMON_WIRE_ERROR_DETAILS_H_
