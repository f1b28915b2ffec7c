// SPDX-License-Identifier: Apache-2.0
//
// Small files that are read whole: tokenizers, templates, configs.
#ifndef COMMON_TEXT_TEXT_FILE_H_
#define COMMON_TEXT_TEXT_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace quire {

// The bytes of the regular file `path`. NotFound if there is none,
// InvalidArgument if it is larger than `max_bytes` or not a regular file,
// Unavailable if it cannot be read; each message names the path.
absl::StatusOr<std::string> ReadTextFile(const std::string& path,
                                         size_t max_bytes);

}  // namespace quire

#endif  // COMMON_TEXT_TEXT_FILE_H_
