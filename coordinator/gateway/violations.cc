// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/violations.h"

#include <utility>

namespace quire {

absl::Status InvalidFields(const std::string& reason,
                           std::vector<FieldViolation> violations) {
  absl::Status status =
      absl::InvalidArgumentError(violations.front().description);
  ErrorDetails details;
  details.reason = reason;
  details.metadata["field"] = violations.front().field;
  details.field_violations = std::move(violations);
  SetErrorDetails(details, &status);
  return status;
}

absl::Status Violations::ToStatus() const {
  if (list_.empty()) return absl::OkStatus();
  return InvalidFields("INVALID_PARAMETER", list_);
}

}  // namespace quire
