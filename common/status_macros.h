// SPDX-License-Identifier: Apache-2.0
//
// Early return for absl::Status and absl::StatusOr, so that the path that works
// reads top to bottom.
//
//   QUIRE_RETURN_IF_ERROR(file.Check());
//   QUIRE_ASSIGN_OR_RETURN(const Header header, ReadHeader(file));
#ifndef COMMON_STATUS_MACROS_H_
#define COMMON_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define QUIRE_RETURN_IF_ERROR(expr)                             \
  do {                                                          \
    if (absl::Status quire_status = (expr); !quire_status.ok()) \
      return quire_status;                                      \
  } while (false)

#define QUIRE_ASSIGN_OR_RETURN(lhs, expr) \
  QUIRE_ASSIGN_OR_RETURN_IMPL(QUIRE_CONCAT(quire_or_, __LINE__), lhs, expr)

#define QUIRE_CONCAT_INNER(a, b) a##b
#define QUIRE_CONCAT(a, b) QUIRE_CONCAT_INNER(a, b)
#define QUIRE_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                \
  if (!tmp.ok()) return std::move(tmp).status();    \
  lhs = *std::move(tmp)

#endif  // COMMON_STATUS_MACROS_H_
