// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with a client's fields, as the error that it is told.
#ifndef COORDINATOR_GATEWAY_VIOLATIONS_H_
#define COORDINATOR_GATEWAY_VIOLATIONS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/wire/error_details.h"

namespace quire {

// InvalidArgument with `reason` and every violation; its message is the first
// one's sentence. REQUIRES: violations is not empty.
absl::Status InvalidFields(const std::string& reason,
                           std::vector<FieldViolation> violations);

// Collects what is wrong with a request, so that a client hears all at once.
// Thread-compatible.
class Violations {
 public:
  void Add(const std::string& field, const std::string& description) {
    list_.push_back({field, description});
  }

  // A sampling parameter outside its range; NaN is outside of every one.
  template <typename T>
  void CheckRange(absl::string_view name, T value, bool in_range,
                  absl::string_view range) {
    if (in_range) return;
    Add(absl::StrCat("sampling.", name),
        absl::StrCat(name, "=", value, " is out of range; it must be ", range));
  }

  // OK, or InvalidFields with reason INVALID_PARAMETER.
  absl::Status ToStatus() const;

 private:
  std::vector<FieldViolation> list_;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_VIOLATIONS_H_
