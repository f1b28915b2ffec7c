// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/key_table.h"

#include "absl/strings/str_cat.h"

namespace quire {

absl::Status KeyTable::Put(const std::string& key, const std::string& value) {
  absl::MutexLock lock(&mutex_);
  const auto [it, is_new] = values_.emplace(key, value);
  if (is_new || it->second == value) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("\"", key, "\" has another value"));
}

absl::StatusOr<std::vector<std::string>> KeyTable::Get(
    absl::Span<const std::string> keys, absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto are_there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const std::string& key : keys) {
      if (values_.count(key) == 0) return false;
    }
    return true;
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&are_there), timeout)) {
    return absl::DeadlineExceededError("a rank has not come");
  }
  std::vector<std::string> values;
  for (const std::string& key : keys) values.push_back(values_[key]);
  return values;
}

}  // namespace quire
